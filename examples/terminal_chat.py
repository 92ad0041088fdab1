"""A chat in the terminal: `python examples/terminal_chat.py`. An empty line ends it, Ctrl-C ends an answer."""

import sys

from llm_dispatcher import LLM, LLMDispatcherError, Message, StreamingCallbacks
from llm_dispatcher.events import StreamSwitched


def say_so(switch: StreamSwitched, _: object) -> None:
    print(f" [{switch.to_target} goes on] ", end="", file=sys.stderr)


def main() -> None:
    llm = LLM(system="Answer briefly and kindly.", callbacks=StreamingCallbacks(on_switch=say_so))
    conversation: list[Message] = []
    while words := input("you:   ").strip():
        asked = [*conversation, Message("user", words)]
        stream = llm(messages=asked)
        print("model: ", end="")
        try:
            for chunk in stream:
                print(chunk, end="", flush=True)
        except KeyboardInterrupt:
            print(" …", end="")  # the vendor's connection is closed; what was said stays said
        except LLMDispatcherError as error:
            print(f" ({error})", end="")
        print()
        if stream.partial:
            conversation = [*asked, Message("assistant", stream.partial)]


if __name__ == "__main__":
    main()
