"""A chat in the terminal: `python examples/terminal_chat.py`.

Ctrl-C stops the current answer. An empty line, Ctrl-D or Ctrl-C at the prompt ends the program.
"""

import sys

from llm_dispatcher import LLM, LLMDispatcherError, Message, StreamingCallbacks
from llm_dispatcher.events import StreamSwitched


def report_switch(switch: StreamSwitched, _: object) -> None:
    print(f" [{switch.to_target} continues] ", end="", file=sys.stderr)


def read_line() -> str:
    """The line that the user types; an empty string at the end of the input."""
    try:
        return input("you:   ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return ""


def main() -> None:
    llm = LLM(system="Answer briefly and kindly.", callbacks=StreamingCallbacks(on_switch=report_switch))
    conversation: list[Message] = []
    while words := read_line():
        messages = [*conversation, Message("user", words)]
        stream = llm(messages=messages)
        print("model: ", end="")
        try:
            for chunk in stream:
                print(chunk, end="", flush=True)
        except KeyboardInterrupt:
            print(" …", end="")  # the vendor's connection is closed; the text so far stays in the conversation
        except LLMDispatcherError as error:
            print(f" ({error})", end="")
        print()
        if stream.partial:
            conversation = [*messages, Message("assistant", stream.partial)]


if __name__ == "__main__":
    main()
