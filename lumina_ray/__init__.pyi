from .errors import LuminaError as LuminaError
from .front.index import index as index
from .front.index import open_index as open_index
from .front.jobs import calibrate as calibrate
from .front.jobs import fingerprint as fingerprint
from .front.model import open_model as open_model

__version__: str
