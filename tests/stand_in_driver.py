"""A program in the place of `nvidia-smi`: the machines that run these tests have no driver."""


def with_driver(folder, monkeypatch, *gpus, status=0, said=""):
    """Put an nvidia-smi in front that tells of GPUs, `(name, compute capability, MiB)` each, or fails."""
    tool = folder / "nvidia-smi"
    lines = [f"{name}, {capability}, {memory}, 580.95.05" for name, capability, memory in gpus]
    told = "\n".join([*lines, said] if said else lines)
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{told}\nEND\nexit {status}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
