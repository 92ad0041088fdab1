"""A chat in the terminal: `python examples/terminal_chat.py`.

Ctrl-C ends an answer that is under way. An empty line, Ctrl-D or Ctrl-C at the prompt ends the program.
"""

import sys

from llm_dispatcher import LLM, LLMDispatcherError, Message, StreamingCallbacks
from llm_dispatcher.events import StreamSwitched


def say_so(switch: StreamSwitched, _: object) -> None:
    print(f" [{switch.to_target} goes on] ", end="", file=sys.stderr)


def typed() -> str:
    """What is typed at the prompt; nothing at the end."""
    try:
        return input("you:   ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return ""


def main() -> None:
    llm = LLM(system="Answer briefly and kindly.", callbacks=StreamingCallbacks(on_switch=say_so))
    conversation: list[Message] = []
    while words := typed():
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
