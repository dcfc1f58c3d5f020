"""Codes → gradients → one unit vector per channel, under a specification that travels with it."""

from lumina_ray.fingerprint.batching import SmallerBatches, choose_chunks_in_flight
from lumina_ray.fingerprint.catalog_statistics import catalog_statistics
from lumina_ray.fingerprint.codes import SongCodes, encode_song
from lumina_ray.fingerprint.fingerprint import Fingerprint, Fingerprinter
from lumina_ray.fingerprint.query import ChannelQuery, QueryFingerprint, describe_environment, fingerprint_query
from lumina_ray.fingerprint.specification import CHANNELS, KINDS, Channel, Dtype, Kind, Specification
from lumina_ray.fingerprint.spot_check import SpotCheck

__all__ = [
    "CHANNELS",
    "KINDS",
    "Channel",
    "ChannelQuery",
    "Dtype",
    "Fingerprint",
    "Fingerprinter",
    "Kind",
    "QueryFingerprint",
    "SmallerBatches",
    "SongCodes",
    "Specification",
    "SpotCheck",
    "catalog_statistics",
    "choose_chunks_in_flight",
    "describe_environment",
    "encode_song",
    "fingerprint_query",
]
