"""Images and audio in requests: recognising a value, loading its content, and finding both in requests."""

from .loading import MOST_BYTES, encode_audio, encode_image, load_audio, load_image
from .recognition import Kind, kind_of, kind_of_name
from .requests import has_media, load_media, request_with_media, with_its_task

__all__ = [
    "MOST_BYTES",
    "Kind",
    "encode_audio",
    "encode_image",
    "has_media",
    "kind_of",
    "kind_of_name",
    "load_audio",
    "load_image",
    "load_media",
    "request_with_media",
    "with_its_task",
]
