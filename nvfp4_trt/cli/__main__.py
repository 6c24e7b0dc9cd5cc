"""`python -m nvfp4_trt.cli`."""

from nvfp4_trt.cli.main import run

if __name__ == "__main__":
    run()
