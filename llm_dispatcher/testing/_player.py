"""`Player`: records requests, refuses invalid ones as the real service does, and answers the others by a script."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from .._vendors.table import vendor
from . import _answers as answers
from ._answers import Answer
from ._continuing import Continuing
from ._http import HttpRequest
from ._received import ReceivedRequest
from ._runs import OPENAIS, Background, RunStore
from ._script import Reply, Wire, numbered
from ._wires import WIRES, Rejection
from .faults import HttpError, Redirect, Refuse

Part: TypeAlias = str | Reply | Continuing | Callable[[ReceivedRequest], Reply]
Script: TypeAlias = Part | Sequence[Part]
"""A text, a reply, or a function that makes a reply from a request; or a sequence of these, one for each request, whose
last one is repeated.
"""

RECORDED_AT = "/_simulated/requests"
PREFILL_REFUSED = (
    "This model does not support assistant message prefill. The conversation must end with a user message."
)
"""The message of Anthropic's newer models."""
ANY_MODEL = "simulated"
"""The list of models has this name if a vendor accepts any model."""
_MAX_CACHED = 256


class Player:
    """The rules of one vendor, its script, and the requests that it has received."""

    def __init__(
        self,
        wire: Wire,
        *,
        models: Collection[str] | None,
        refuses_prefill: bool | Collection[str],
        api_key: str | None,
        remember: int | None,
        host: str = "openai",
        background: Background = OPENAIS,
    ) -> None:
        self.runs = RunStore(background)
        self.requests: list[ReceivedRequest] = []
        self.script_error: Exception | None = None
        self._wire = wire
        self._models = None if models is None else frozenset(models)
        self._refuses_prefill = refuses_prefill if isinstance(refuses_prefill, bool) else frozenset(refuses_prefill)
        self._api_key = api_key
        self._remember = remember
        self._host = host
        self._keeps_runs = wire == Wire.OPENAI_RESPONSES and vendor(host).keeps_runs
        self._received = 0
        self.load(Reply())

    def load(self, script: Script) -> None:
        """Replace the script, and begin it. Raises an error if it is impossible on this wire."""
        several = list(script) if isinstance(script, Sequence) and not isinstance(script, str) else [script]
        parts = [Reply(part) if isinstance(part, str) else part for part in several]
        if not parts:
            raise ValueError("a script that is a sequence has at least one Reply")
        for part in parts:
            if isinstance(part, Reply):
                answers.check(self._wire, part)
            elif not callable(part):
                raise TypeError(
                    "a script is a text, a Reply, a function that makes one, or a sequence of these; "
                    f"got {type(part).__name__}"
                )
        self.script = script
        self._parts = parts
        self._answer_count = 0
        self._cached: dict[tuple[object, ...], Answer] = {}

    def receive(self, received: HttpRequest) -> ReceivedRequest:
        """Record a request. A request for the records themselves is not recorded."""
        try:
            body: Any = msgspec.json.decode(received.body) if received.body else {}
        except msgspec.DecodeError:
            body = None
        is_object = isinstance(body, dict)
        self._received += 1
        request = ReceivedRequest(
            self._wire,
            received.method,
            received.path,
            received.headers,
            body if is_object else {},
            f"req_sim_{self._received}",
        )
        request.is_json = is_object
        request.host = self._host
        if received.path != RECORDED_AT:
            self.requests.append(request)
            if self._remember is not None:
                del self.requests[: -self._remember or None]
        return request

    def answer(self, request: ReceivedRequest) -> Answer:
        """The answer to a request. If the script fails, it is a 500, and `script_error` has the first error."""
        if request.path == RECORDED_AT:
            return answers.json_answer([each.as_json() for each in self.requests])
        rejection = self._rejection(request)
        if rejection is not None:
            answer = answers.error_answer(self._wire, rejection, request.request_id)
        elif self._is_about_a_run(request):
            answer = self.runs.answer(request)
        elif request.method == "GET":
            answer = answers.json_answer(WIRES[self._wire].models(sorted(self._models or (ANY_MODEL,))))
        elif request.service is not None:
            answer = answers.json_answer(request.service)
        else:
            try:
                answer = self._scripted(request)
            except Exception as error:  # noqa: BLE001 - a script is the user's code: its error is raised when the vendor stops
                self.script_error = self.script_error or error
                message = f"the script failed: {type(error).__name__}: {error}"
                answer = answers.error_answer(self._wire, HttpError(500, message=message), request.request_id)
        name = WIRES[self._wire].REQUEST_ID_HEADER
        return replace(answer, headers={name: request.request_id, **answer.headers})

    def _rejection(self, request: ReceivedRequest) -> Rejection | None:
        """The reason why the real service would refuse this request, or `None`."""
        module = WIRES[self._wire]
        asks_for_models = request.method == "GET" and module.MODELS.fullmatch(request.path.partition("?")[0])
        if not request.is_json:
            return Rejection(400, "the body is not valid JSON")
        about_a_run = self._is_about_a_run(request)
        if request.method != "POST" and not asks_for_models and not about_a_run:
            return Rejection(405, f"{request.method} is not allowed here")
        if self._api_key is not None and module.key(request) != self._api_key:
            return Rejection(401, "the API key is missing or wrong")
        if asks_for_models or about_a_run:
            return None
        rejection = module.read(request)
        if rejection is not None or request.service is not None:
            return rejection
        for model in (request.model, *request.fallbacks):
            if self._models is not None and model not in self._models:
                return Rejection(404, f"the model {model} does not exist")
        is_chat = "prompt" not in request.body
        if is_chat and request.turns[-1].role == "assistant" and self._refuses_open_turn(request.model):
            return Rejection(400, PREFILL_REFUSED)
        return None

    def _is_about_a_run(self, request: ReceivedRequest) -> bool:
        return self._keeps_runs and self.runs.is_asked_by(request)

    def _refuses_open_turn(self, model: str) -> bool:
        refuses = self._refuses_prefill
        return refuses if isinstance(refuses, bool) else model in refuses

    def _scripted(self, request: ReceivedRequest) -> Answer:
        """The answer of the script. A fixed reply is encoded once."""
        place = min(self._answer_count, len(self._parts) - 1)
        self._answer_count += 1
        part = self._parts[place]
        reply = part if isinstance(part, Reply) else part(request)
        reply = request.reply = numbered(reply, [call.id for call in request.calls])
        if isinstance(reply.fault, Refuse):
            return answers.no_answer()
        if isinstance(reply.fault, Redirect):
            return answers.redirected(reply.fault)
        if isinstance(reply.fault, HttpError):
            return answers.error_answer(self._wire, reply.fault, request.request_id, reply.headers)
        if self._keeps_runs and request.body.get("background") is True:
            return self.runs.begin(request, reply)
        key = (place, request.model, request.wants_usage, request.fallbacks, reply.tool_calls)
        if request.change is None and (answer := self._cached.get(key)) is not None:
            return answer
        answer = answers.streamed(
            self._wire,
            reply if request.wants_usage else replace(reply, usage=None),
            request.model,
            request.fallbacks,
            request.change,
        )
        if request.change is None and isinstance(part, Reply) and len(self._cached) < _MAX_CACHED:
            self._cached[key] = answer
        return answer
