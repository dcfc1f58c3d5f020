"""The finding of provenance: is the clip an output of the audited model, or of another one whose profile is at hand?"""

from lumina_ray.attribution.schema import ModelLikeness, ProvenanceFinding
from lumina_ray.calibration import ALPHA
from lumina_ray.index import Snapshot
from lumina_ray.vocabulary import QueryFingerprint


def find_provenance(query: QueryFingerprint, snapshot: Snapshot) -> ProvenanceFinding | None:
    """Compare a clip with the profile of each model.

    A clip is found to be like a model's pieces if at most `ALPHA` of unrelated tracks are so like them, divided by the
    number of models that were asked about. It may be found to be like those of several: which of them, if any, made it,
    this cannot tell.

    Returns:
        None where the calibration has no profiles, or the query not all of their channels.
    """
    profiles = snapshot.calibration.profiles
    if not profiles or any(set(profile.mean) != set(query.channels) for profile in profiles):
        return None
    references = {c: snapshot.references[c] for c in query.channels}
    excess = {
        c: reference.noise.excess(reference.vectors @ query.channels[c].vector.astype("float64"))
        for c, reference in references.items()
    }
    models = []
    for profile in profiles:
        likeness = profile.likeness(excess)
        models.append(
            ModelLikeness(
                model=profile.model,
                audited=profile.audited,
                n_pieces=profile.n_pieces,
                power=profile.power,
                likeness=likeness,
                p_value=profile.p_value(likeness),
            )
        )
    alpha = ALPHA / len(models)
    n_controls = len(profiles[0].controls)
    return ProvenanceFinding(
        alpha=alpha,
        n_controls=n_controls,
        resolution=1 / (n_controls + 1),
        found=tuple(one.model for one in models if one.p_value <= alpha * (1 + 1e-12)),
        models=tuple(models),
    )
