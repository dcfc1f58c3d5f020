"""Codes → gradients → one unit vector per channel, under a specification that travels with it."""

from lumina_ray.fingerprint.codes import SongCodes, encode_song
from lumina_ray.fingerprint.fingerprint import Fingerprint, Fingerprinter
from lumina_ray.fingerprint.query import ChannelQuery, QueryFingerprint, describe_environment, fingerprint_query
from lumina_ray.fingerprint.specification import CHANNELS, KINDS, Channel, Kind, Specification

__all__ = [
    "CHANNELS",
    "KINDS",
    "Channel",
    "ChannelQuery",
    "Fingerprint",
    "Fingerprinter",
    "Kind",
    "QueryFingerprint",
    "SongCodes",
    "Specification",
    "describe_environment",
    "encode_song",
    "fingerprint_query",
]
