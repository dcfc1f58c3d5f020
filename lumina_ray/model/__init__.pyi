from .files import BUNDLED as BUNDLED
from .files import find_model as find_model
from .interface import AttributableModel as AttributableModel
from .interface import MusicModel as MusicModel
from .interface import Prediction as Prediction
from .open import open_model as open_model
from .tracked import TRACKED_TENSORS as TRACKED_TENSORS
from .tracked import TrackedTensor as TrackedTensor
