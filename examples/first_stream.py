from llm_dispatcher import llm_stream


@llm_stream
def story(topic: str) -> str:
    return f"Tell a short story about {topic}."


for chunk in story("a lighthouse keeper"):
    print(chunk, end="", flush=True)
