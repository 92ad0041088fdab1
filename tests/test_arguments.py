"""What a decorated function's arguments are to the request: settings, images and sounds, words, or the body's own."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_dispatcher import (
    LLM,
    LLMSwitch,
    Local,
    Message,
    TaskRequest,
    encode_audio,
    encode_image,
    llm_stream,
    set_global_switch,
)
from llm_dispatcher.tasks import ImagePart, Media
from llm_dispatcher.testing import Reply, SimulatedVendor
from tests.conftest import examples

PNG = b"\x89PNG\r\n\x1a\n and what follows"
WAV = b"RIFF\x10\x00\x00\x00WAVEfmt  and what follows"
PICTURE = encode_image(PNG)
SOUND = encode_audio(WAV)
Start = Callable[..., SimulatedVendor]


@pytest.fixture
def vendors(simulated_vendor: Start) -> Iterator[dict[str, SimulatedVendor]]:
    """A vendor for each task that is told apart, by its task's name; the routes are the proof of the task."""
    tasks = ("text_generation", "vision_analysis", "audio_analysis", "multimodal_analysis")
    started = {task: simulated_vendor("openai-chat", Reply(task)) for task in tasks}
    switch = LLMSwitch(
        {
            "providers": {
                task: {
                    "kind": "openai",
                    "api": "chat",
                    "api_key": "test-key",
                    "base_url": vendor.base_url,
                    "models": ["m"],
                }
                for task, vendor in started.items()
            },
            "routing": {"tasks": {task: [f"{task}/m"] for task in tasks}},
            "resilience": {"max_retries": 0},
        }
    )
    set_global_switch(switch)
    yield started
    set_global_switch(None)


def sent(vendors: Mapping[str, SimulatedVendor]) -> tuple[str, list[str], dict[str, Any]]:
    """The one request that was sent: its words, its images and sounds in their order, and its body."""
    (request,) = [request for vendor in vendors.values() for request in vendor.requests]
    content = request.body["messages"][-1]["content"]
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    words = [part["text"] for part in parts if part["type"] == "text"]
    media = [
        part["image_url"]["url"] if part["type"] == "image_url" else f"sound:{part['input_audio']['data']}"
        for part in parts
        if part["type"] != "text"
    ]
    return "|".join(words), media, request.body


def in_the_body(sound: bytes) -> str:
    return f"sound:{base64.b64encode(sound).decode()}"


# ── the body is the prompt: what it reads is its own ───────────────────────────────────────────────────────────────


@llm_stream
def weather(temperature: float, city: str) -> str:
    return f"Is {temperature} degrees normal in {city}?"


@llm_stream
def review(system: str) -> str:
    return f"Review the {system} system of this house."


@llm_stream
def toolbox(tools: list[str]) -> str:
    return f"What can I build with {', '.join(tools)}?"


@llm_stream
async def digest(messages: list[str]) -> str:
    def joined() -> str:
        return "; ".join(messages)  # (read by a function inside)

    return f"Sum up: {joined()}"


@llm_stream
def gear(audio: str, images: str) -> str:
    return f"Compare {audio} and {images}."


@llm_stream
def looks_at_all(max_tokens: int) -> str:
    return "{max_tokens} tokens".format(**locals())


@llm_stream
def with_keywords(**words: Any) -> str:
    return f"{words['temperature']} and {words['system']}"


@pytest.mark.found("N-B9")
@pytest.mark.parametrize(
    ("call", "prompt"),
    [
        (lambda: weather(35.0, "Oslo"), "Is 35.0 degrees normal in Oslo?"),
        (lambda: review("heating"), "Review the heating system of this house."),
        (lambda: toolbox(["a saw", "glue"]), "What can I build with a saw, glue?"),
        (lambda: digest(["one", "two"]), "Sum up: one; two"),
        (lambda: gear("headphones", "posters"), "Compare headphones and posters."),
        (lambda: looks_at_all(3), "3 tokens"),
        (lambda: with_keywords(temperature=5, system="metric"), "5 and metric"),
    ],
)
async def test_a_parameter_that_the_body_reads_is_not_a_setting(
    call: Callable[[], Any], prompt: str, vendors: dict[str, SimulatedVendor]
) -> None:
    assert await call() == "text_generation"
    words, media, body = sent(vendors)
    assert (words, media) == (prompt, [])
    assert not body.keys() & {"temperature", "tools", "max_completion_tokens", "max_tokens"}
    assert [message["role"] for message in body["messages"]] == ["user"]


async def test_a_parameter_that_the_body_does_not_read_is_the_setting_of_its_name(
    vendors: dict[str, SimulatedVendor],
) -> None:
    @llm_stream(temperature=0.9)
    def asked(
        question: str, temperature: float | None = None, system: str | None = None,
        conversation_history: list[Message] | None = None,
    ) -> str:  # fmt: skip
        return f"Q: {question}"

    await asked("why?", 0.2, "Be kind.", [Message("user", "hi"), Message("assistant", "hello")])
    words, _, body = sent(vendors)
    assert words == "Q: why?"
    assert body["temperature"] == 0.2
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]


@pytest.mark.found("N-B9")
async def test_a_setting_that_the_body_leaves_open_completes_what_it_returns(
    vendors: dict[str, SimulatedVendor],
) -> None:
    @llm_stream
    def request(question: str, max_tokens: int, temperature: float) -> TaskRequest:
        return TaskRequest(question, temperature=0.9)

    await request("why?", 5, 0.1)
    assert (sent(vendors)[2]["max_completion_tokens"], sent(vendors)[2]["temperature"]) == (5, 0.9)


def test_what_a_function_reads_is_seen_through_other_decorators() -> None:
    from llm_dispatcher._bodies import parameters_read

    def wrapped(function: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> str:
            return function(*args, **kwargs)

        return call

    @wrapped
    def asks(temperature: float, system: str, city: str = "Oslo") -> str:
        city = f"{city}!"
        return f"{temperature} in {city}"

    assert parameters_read(asks) & {"temperature", "system", "city"} == {"temperature", "city"}


# ── images and sounds, whatever their parameter is called ──────────────────────────────────────────────────────────


@llm_stream
async def by_signature(prompt: str, photo: Any = None, audio_data: Any = None) -> AsyncIterator[str]:
    yield "a rehearsal"


@llm_stream
def unread(prompt: str, photo: Any = None, audio_data: Any = None) -> str:
    return prompt


@llm_stream
def written_in(prompt: str, photo: Any = None, audio_data: Any = None) -> str:
    return f"{prompt}{photo if isinstance(photo, str) else ''}{audio_data if isinstance(audio_data, str) else ''}"


@llm_stream
async def held(llm: LLM, prompt: str, photo: Any = None, audio_data: Any = None) -> AsyncIterator[str]:
    words = f"{prompt}{photo if isinstance(photo, str) else ''}{audio_data if isinstance(audio_data, str) else ''}"
    images, audio = (each if each and not isinstance(each, str) else () for each in (photo, audio_data))
    async for chunk in llm(words, images=images, audio=audio):
        yield chunk


FORMS = [by_signature, unread, written_in, held]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    return path


@pytest.mark.found("S-D4", "N-B9")
@pytest.mark.parametrize("function", FORMS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("form", ["data URI", "bytes", "path"])
async def test_an_image_is_sent_as_one_and_routed_as_one(
    function: Any, form: str, picture: Path, vendors: dict[str, SimulatedVendor]
) -> None:
    photo = {"data URI": PICTURE, "bytes": PNG, "path": picture}[form]
    assert await function("What is this?", photo) == "vision_analysis"
    assert sent(vendors)[:2] == ("What is this?", [PICTURE])


@pytest.mark.found("S-D4", "N-B9")
@pytest.mark.parametrize("function", FORMS, ids=lambda function: function.__name__)
async def test_a_sound_is_sent_as_one_and_routed_as_one(function: Any, vendors: dict[str, SimulatedVendor]) -> None:
    assert await function("What is this?", audio_data=SOUND) == "audio_analysis"
    assert sent(vendors)[:2] == ("What is this?", [in_the_body(WAV)])


@pytest.mark.found("S-D4")
@pytest.mark.parametrize("function", FORMS, ids=lambda function: function.__name__)
async def test_an_image_with_a_sound_is_a_multimodal_task(function: Any, vendors: dict[str, SimulatedVendor]) -> None:
    assert await function("What are these?", PICTURE, SOUND) == "multimodal_analysis"
    assert sent(vendors)[:2] == ("What are these?", [PICTURE, in_the_body(WAV)])


async def test_a_task_that_the_decorator_names_is_kept(vendors: dict[str, SimulatedVendor]) -> None:
    @llm_stream(task_type="multimodal_analysis")
    async def named(prompt: str, photo: str) -> AsyncIterator[str]:
        yield ""

    assert await named("What is this?", PICTURE) == "multimodal_analysis"


@pytest.mark.found("S-D4")
@pytest.mark.parametrize(
    ("argument", "line", "media"),
    [
        ([PICTURE, PNG, Media("image/png", PICTURE.partition(",")[2])], "", 3),
        ([PICTURE, "a word"], 'photo: ["a word"]', 1),
        ({"before": PNG, "after": [PNG, {"note": "wet", "other": PNG}]}, 'photo: {"after": [{"note": "wet"}]}', 3),
        (ImagePart(PNG), "", 1),
        ("data: as text, and image/png; beside it", "photo: data: as text, and image/png; beside it", 0),
        ("data:text/plain;base64,aGVsbG8=", "photo: data:text/plain;base64,aGVsbG8=", 0),
        ("photo.png", "photo: photo.png", 0),
        ([], "photo: []", 0),
    ],
)  # fmt: skip
async def test_images_are_taken_out_of_lists_and_dicts_and_words_stay(
    argument: Any, line: str, media: int, vendors: dict[str, SimulatedVendor]
) -> None:
    await by_signature("What is this?", argument)
    assert sent(vendors)[:2] == (f"What is this?\n\n{line}" if line else "What is this?", [PICTURE] * media)


@pytest.mark.found("S-D4")
async def test_a_data_uri_that_a_body_writes_into_its_prompt_is_sent_where_it_stands(
    vendors: dict[str, SimulatedVendor],
) -> None:
    @llm_stream
    def compared(before: str, after: str, also: bytes, conversation_history: list[Message]) -> str:
        return f"Is {before} older than {after}?"

    other = encode_image(PNG + b"!")
    await compared(PICTURE, other, PNG, [Message("user", "hi"), Message("assistant", "hello")])
    words, media, body = sent(vendors)
    assert (words, media) == ("Is | older than |?", [PICTURE, PICTURE, other])
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [part["type"] for part in body["messages"][-1]["content"]] == [
        "image_url", "text", "image_url", "text", "image_url", "text",
    ]  # fmt: skip


@pytest.mark.found("S-D4")
async def test_a_prompt_that_is_a_data_uri_is_an_image(vendors: dict[str, SimulatedVendor]) -> None:
    assert await LLM()(PICTURE) == "vision_analysis"
    assert sent(vendors)[:2] == ("", [PICTURE])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(30))
@given(before=st.text(max_size=20), between=st.text(max_size=20), after=st.text(max_size=20), twice=st.booleans())
@pytest.mark.found("S-D4")
async def test_no_base64_is_ever_sent_as_words(
    before: str, between: str, after: str, twice: bool, vendors: dict[str, SimulatedVendor]
) -> None:
    @llm_stream
    def shown(photo: str) -> str:
        return before + photo + between + (photo if twice else "") + after

    for vendor in vendors.values():
        vendor.requests.clear()
    await shown(PICTURE)
    words, media, _ = sent(vendors)
    pieces = [before, between, after] if twice else [before, between + after]
    assert words == "|".join(piece for piece in pieces if piece.strip())
    assert media == [PICTURE] * (2 if twice else 1)


# ── nothing is lost without a word ─────────────────────────────────────────────────────────────────────────────────


class Image:
    """As PIL's."""

    __module__ = "PIL.Image"


class Array:
    """As numpy's."""

    __array_interface__: Any = None


UNSENDABLE = [
    (bytearray(PNG), r"convert it with bytes\(…\)"),
    (memoryview(PNG), r"convert it with bytes\(…\)"),
    (io.BytesIO(PNG), "encode it with encode_image or encode_audio"),
    (Image(), r'picture.save\(file, "PNG"\)'),
    (Array(), "an array holds pixels or samples, not a file: encode it as PNG or WAV"),
]


@pytest.mark.found("N-C17", "N-B9")
@pytest.mark.parametrize(("value", "words"), UNSENDABLE, ids=lambda value: type(value).__name__)
async def test_an_image_in_a_form_that_is_not_taken_is_refused_with_the_fix(
    value: Any, words: str, vendors: dict[str, SimulatedVendor]
) -> None:
    for wrong in (value, [value]):
        with pytest.raises(TypeError, match=f"images is a path, bytes, a data URI or a URL, got .*{words}"):
            TaskRequest("What is this?", images=wrong)
    with pytest.raises(TypeError, match=f"'photo' is a .*{words}"):
        by_signature("What is this?", value)
    with pytest.raises(TypeError, match=f"'photo' is a .* so it would not be sent: .*{words}"):
        await unread("What is this?", value)
    assert not any(vendor.requests for vendor in vendors.values())


@pytest.mark.found("N-B9")
@pytest.mark.parametrize(
    ("value", "plural"),
    [("cat.PNG", "images"), ("https://example.org/cat.jpg?size=2", "images"), ("/tmp/said.wav", "audio")],
)
async def test_the_name_of_a_file_that_the_body_does_not_read_is_refused_with_the_fix(
    value: str, plural: str, vendors: dict[str, SimulatedVendor]
) -> None:
    fix = rf"'photo' is a str, .* so it would not be sent: pass Path\(…\) or bytes, or call the parameter '{plural}'"
    with pytest.raises(TypeError, match=fix):
        await unread("What is this?", value)
    assert not any(vendor.requests for vendor in vendors.values())


@pytest.mark.found("N-B9")
async def test_bytes_that_a_body_formats_into_its_prompt_are_refused(vendors: dict[str, SimulatedVendor]) -> None:
    @llm_stream
    def described(photo: Any) -> str:
        return f"What is in {photo}?"

    with pytest.raises(TypeError, match=r"the prompt contains the bytes of the image as text: .*pass encode_image"):
        await described(PNG)
    assert not any(vendor.requests for vendor in vendors.values())
    assert await described(encode_image(PNG))


@pytest.mark.parametrize("value", ["python:3.11", "a note", "The title of cat.png", ""])
async def test_unread_text_arguments_are_ignored(value: str, vendors: dict[str, SimulatedVendor]) -> None:
    assert await unread("What is this?", value)


@pytest.mark.found("N-B9")
async def test_bytes_that_are_not_an_image_are_refused_unless_the_body_reads_them(
    vendors: dict[str, SimulatedVendor],
) -> None:
    @llm_stream
    def summary(pdf: bytes) -> str:
        return f"Sum up: {pdf.decode()}"

    assert await summary(b"%PDF-1.7 words") == "text_generation"
    with pytest.raises(TypeError, match="its first bytes do not match a known image or sound"):
        await unread("What is this?", b"%PDF-1.7")


@pytest.mark.found("S-D4")
async def test_a_body_that_holds_the_stream_and_forgets_an_image_is_told_so(
    vendors: dict[str, SimulatedVendor],
) -> None:
    @llm_stream
    async def forgets(llm: LLM, prompt: str, photo: bytes, spare: Annotated[bytes, Local]) -> AsyncIterator[str]:
        async for chunk in llm(prompt):
            yield chunk

    with pytest.raises(TypeError, match=r"'photo' is an image or a sound, and the body does not read it"):
        forgets("What is this?", PNG, PNG)
    assert await forgets("What is this?", b"no image", PNG) == "text_generation"


async def test_an_image_that_the_body_uses_is_sent_once(vendors: dict[str, SimulatedVendor]) -> None:
    @llm_stream
    def placed(prompt: str, photo: bytes) -> TaskRequest:
        return TaskRequest(prompt, images=[photo])

    await placed("What is this?", PNG)
    assert sent(vendors)[:2] == ("What is this?", [PICTURE])


@pytest.mark.found("N-B9")
async def test_a_request_of_the_body_gets_the_image_that_it_does_not_read(
    vendors: dict[str, SimulatedVendor],
) -> None:
    @llm_stream
    def asks(prompt: str, photo: bytes) -> TaskRequest:
        return TaskRequest(prompt)

    @llm_stream
    def converses(prompt: str, photo: bytes) -> list[dict[str, Any]]:
        return [{"role": "user", "content": prompt}]

    for function, words in ((asks, "What is this?"), (converses, "")):
        for vendor in vendors.values():
            vendor.requests.clear()
        assert await function("What is this?", PNG) == "vision_analysis"
        assert sent(vendors)[:2] == (words, [PICTURE])


async def test_a_local_image_stays_here(vendors: dict[str, SimulatedVendor]) -> None:
    @llm_stream
    def recognised(photo: Annotated[bytes, Local], _scan: bytes, system: Annotated[str, Local] = "x") -> str:
        return "What does this say?"

    assert await recognised(PNG, PNG) == "text_generation"
    words, media, body = sent(vendors)
    assert (words, media) == ("What does this say?", [])
    assert len(body["messages"]) == 1
