import peers
import pytest


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A checkpoint of each peer, made by that peer."""
    root = tmp_path_factory.mktemp("peers")
    peers.save_torchao(peers.torchao_module(), root / "torchao.safetensors")
    peers.save_torchao(peers.torchao_module(static=True), root / "torchao-static.safetensors")
    peers.save_compressed_tensors(root / "compressed-tensors")
    peers.save_modelopt(root / "modelopt")
    return root
