"""Requests that hold images or audio: whether they do, the task that follows from it, and loading all of them."""

from __future__ import annotations

from collections.abc import Container, Iterable

from msgspec.structs import replace

from ..tasks import AudioPart, ImagePart, Message, Part, TaskRequest, TaskType
from .loading import load_audio, load_image
from .recognition import kind_of


def has_media(request: TaskRequest) -> bool:
    """Whether a request holds an image or a sound."""
    return bool(request.images or request.audio) or any(
        isinstance(part, (ImagePart, AudioPart)) for message in request.messages for part in message.parts
    )


def with_its_task(request: TaskRequest, settings: Container[str]) -> TaskRequest:
    """The request with the task that its images and sounds imply, unless the caller's `settings` name a task."""
    if "task_type" in settings or request.task_type is not TaskType.TEXT_GENERATION or not has_media(request):
        return request
    kinds = {type(part) for message in request.conversation for part in message.parts} & {ImagePart, AudioPart}
    if len(kinds) > 1:
        return replace(request, task_type=TaskType.MULTIMODAL_ANALYSIS)
    task = TaskType.VISION_ANALYSIS if ImagePart in kinds else TaskType.AUDIO_ANALYSIS
    return replace(request, task_type=task)


def request_with_media(request: TaskRequest, data_uris: Iterable[str]) -> TaskRequest:
    """The request with each of these data URIs in its prompt replaced by the image or the sound."""
    prompt = request.prompt
    if prompt is None or not (in_prompt := [uri for uri in data_uris if uri in prompt]):
        return request
    pieces: list[str | Part] = [prompt]
    for uri in in_prompt:
        part = AudioPart(uri) if kind_of(uri) == "audio" else ImagePart(uri)
        pieces = [new for old in pieces for new in (_replace_uri(old, uri, part) if isinstance(old, str) else [old])]
    images = tuple(source for source in request.images if source not in in_prompt)
    audio = tuple(source for source in request.audio if source not in in_prompt)
    without_prompt = replace(request, prompt=None, messages=(), images=images, audio=audio).conversation
    parts = [*(part for message in without_prompt for part in message.parts), *pieces]
    turn = Message("user", [part for part in parts if not isinstance(part, str) or part.strip()])
    return replace(request, prompt=None, messages=(*request.messages, turn), images=(), audio=())


def load_media(request: TaskRequest) -> TaskRequest:
    """The request with all images and sounds loaded, so that each is read once however often the request is sent.

    Blocks while it reads files.
    """
    if not has_media(request):
        return request
    return replace(
        request,
        images=tuple(load_image(source) for source in request.images),
        audio=tuple(load_audio(source) for source in request.audio),
        messages=tuple(
            replace(message, parts=tuple(_load_part(part) for part in message.parts)) for message in request.messages
        ),
    )


def _replace_uri(text: str, uri: str, part: Part) -> list[str | Part]:
    first, *rest = text.split(uri)
    return [first, *(piece for each in rest for piece in (part, each))]


def _load_part(part: Part) -> Part:
    match part:
        case ImagePart():
            return ImagePart(load_image(part.source))
        case AudioPart():
            return AudioPart(load_audio(part.source))
        case _:
            return part
