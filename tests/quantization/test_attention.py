"""The opened attention computes what torch's own does, on every option."""

import itertools

import pytest
import torch
from torch import nn

from nvfp4_trt import quantize
from nvfp4_trt.quantization import QuantLinear
from nvfp4_trt.quantization.attention import OpenMultiheadAttention, refusal
from nvfp4_trt.quantization.convert import open_attention

WIDTH, HEADS, BATCH, QUERIES, KEYS = 32, 4, 3, 5, 7


def pair(**options):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, **options).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()  # torch starts them at zero, which would hide a mistake
    assert refusal(theirs) is None
    return theirs, OpenMultiheadAttention(theirs)


def tensors(module, *, unbatched=False, self_attention=False):
    def draw(length, width):
        shape = (length,) if unbatched else (BATCH, length) if module.batch_first else (length, BATCH)
        return torch.randn(*shape, width)

    query = draw(QUERIES, WIDTH)
    if self_attention:
        return query, query, query
    kdim, vdim = getattr(module, "kdim", WIDTH), getattr(module, "vdim", WIDTH)
    return query, draw(KEYS, kdim), draw(KEYS, vdim)


def assert_same(theirs, ours, arguments, **options):
    with torch.no_grad():
        expected, found = theirs(*arguments, **options), ours(*arguments, **options)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)


BUILT = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "no bias": {"bias": False},
    "kdim and vdim": {"kdim": 48, "vdim": 16, "batch_first": True},
    "vdim, no bias": {"vdim": 16, "bias": False},
    "dropout, in eval": {"dropout": 0.5, "batch_first": True},
}
WEIGHTS = [
    {"need_weights": False},
    {"need_weights": True},
    {"need_weights": True, "average_attn_weights": False},
]


@pytest.mark.parametrize("built", BUILT)
@pytest.mark.parametrize("unbatched", [False, True])
def test_cross_attention(built, unbatched):
    theirs, ours = pair(**BUILT[built])
    for options in WEIGHTS:
        assert_same(theirs, ours, tensors(theirs, unbatched=unbatched), **options)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("unbatched", [False, True])
def test_self_attention(batch_first, unbatched):
    theirs, ours = pair(batch_first=batch_first)
    for options in WEIGHTS:
        assert_same(theirs, ours, tensors(theirs, unbatched=unbatched, self_attention=True), **options)


def masks(kind, rank):
    shape = (QUERIES, KEYS) if rank == 2 else (BATCH * HEADS, QUERIES, KEYS)
    kept = torch.rand(shape) < 0.3
    kept[..., 0] = False  # a row that attends to nothing is NaN, in torch too
    return kept if kind == "bool" else torch.randn(shape).masked_fill(kept, float("-inf"))


def padding(kind):
    hidden = torch.zeros(BATCH, KEYS, dtype=torch.bool)
    hidden[1, 4:] = True
    hidden[2, 1:] = True
    return hidden if kind == "bool" else torch.zeros(BATCH, KEYS).masked_fill(hidden, float("-inf"))


CASES = [
    (mask, rank, pad)
    for mask, rank, pad in itertools.product((None, "bool", "float"), (2, 3), (None, "bool", "float"))
    if not (mask is None and (rank == 3 or pad is None))
]


@pytest.mark.parametrize(("mask", "rank", "pad"), CASES)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_masks(mask, rank, pad, batch_first):
    theirs, ours = pair(batch_first=batch_first)
    given = {}
    if mask is not None:
        given["attn_mask"] = masks(mask, rank)
    if pad is not None:
        given["key_padding_mask"] = padding(pad)
    for options in WEIGHTS:
        assert_same(theirs, ours, tensors(theirs), **given, **options)


@pytest.mark.parametrize("rank", [2, 3])
def test_masks_without_a_batch(rank):
    theirs, ours = pair()
    shape = (QUERIES, KEYS) if rank == 2 else (HEADS, QUERIES, KEYS)
    mask = torch.rand(shape) < 0.3
    mask[..., 0] = False
    hidden = torch.arange(KEYS) > 5
    for options in WEIGHTS:
        arguments = tensors(theirs, unbatched=True)
        assert_same(theirs, ours, arguments, attn_mask=mask, key_padding_mask=hidden, **options)


def test_a_causal_mask():
    theirs, ours = pair(batch_first=True)
    arguments = tensors(theirs, self_attention=True)
    causal = nn.Transformer.generate_square_subsequent_mask(QUERIES)
    for options in WEIGHTS:
        assert_same(theirs, ours, arguments, attn_mask=causal, is_causal=True, **options)
    for module in (theirs, ours):
        with pytest.raises((RuntimeError, ValueError), match="attn_mask"):
            module(*arguments, is_causal=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    theirs, ours = (module.to(dtype) for module in pair(batch_first=True))
    arguments = [tensor.to(dtype) for tensor in tensors(theirs)]
    expected, found = theirs(*arguments)[0], ours(*arguments)[0]
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_opening_shares_the_parameters_memory():
    theirs, ours = pair()
    start = theirs.in_proj_weight.data_ptr()
    step = WIDTH * WIDTH * 4
    assert [p.weight.data_ptr() - start for p in (ours.q_proj, ours.k_proj, ours.v_proj)] == [0, step, 2 * step]
    assert ours.out_proj.weight.data_ptr() == theirs.out_proj.weight.data_ptr()


def test_dropout_in_training():
    theirs = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.5, batch_first=True).train()
    ours = OpenMultiheadAttention(theirs)
    assert ours.training
    x = torch.randn(2, 5, WIDTH)
    assert not torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])
    ours.eval()
    assert torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])


class Loud(nn.MultiheadAttention):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


@pytest.mark.parametrize(
    "attention",
    [
        nn.MultiheadAttention(64, 4, batch_first=True, add_bias_kv=True),
        nn.MultiheadAttention(64, 4, batch_first=True, add_zero_attn=True),
        Loud(64, 4, batch_first=True),
    ],
)
def test_those_that_stay_whole_keep_working(attention):
    model = nn.ModuleDict({"attention": attention, "linear": nn.Linear(64, 64)}).eval()
    quantized = quantize(model)
    kept = quantized.module["attention"]
    assert type(kept) is type(attention)
    assert isinstance(quantized.module["linear"], QuantLinear)
    x = torch.randn(2, 5, 64)
    assert torch.equal(kept(x, x, x)[0], attention(x, x, x)[0])


LAYERS = {
    "default": {},
    "norm first": {"norm_first": True},
    "gelu, no bias": {"activation": "gelu", "bias": False},
}


def encoder_layer(**options):
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(64, 4, dim_feedforward=96, batch_first=True, **options).eval()


def encoder_masks():
    hidden = torch.zeros(2, 10, dtype=torch.bool)
    hidden[1, 6:] = True
    return [
        {},
        {"src_key_padding_mask": hidden},
        {"mask": nn.Transformer.generate_square_subsequent_mask(10), "is_causal": True},
        {"mask": nn.Transformer.generate_square_subsequent_mask(10).isinf(), "src_key_padding_mask": hidden},
    ]


@pytest.mark.parametrize("built", LAYERS)
@pytest.mark.parametrize("case", range(4))
def test_an_encoder_layer_with_its_attention_opened(built, case):
    import copy

    theirs = encoder_layer(**LAYERS[built])
    ours = open_attention(copy.deepcopy(theirs))
    options = encoder_masks()[case]
    options = {name.replace("mask", "src_mask") if name == "mask" else name: v for name, v in options.items()}
    x = torch.randn(2, 10, 64)
    with torch.no_grad():
        assert isinstance(ours.self_attn, OpenMultiheadAttention)
        torch.testing.assert_close(ours(x, **options), theirs(x, **options), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("case", range(4))
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_with_its_attention_opened(nested, case):
    import copy

    theirs = nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=nested).eval()
    ours = open_attention(copy.deepcopy(theirs))
    options = encoder_masks()[case]
    x = torch.randn(2, 10, 64)
    with torch.no_grad():
        expected, found = theirs(x, **options), ours(x, **options)
    shown = ~options.get("src_key_padding_mask", torch.zeros(2, 10, dtype=torch.bool))
    # What stands at padded places is nobody's business: torch's nested path fills in zeros.
    torch.testing.assert_close(found[shown], expected[shown], rtol=1e-5, atol=1e-5)


def test_a_decoder_layer_with_its_attentions_opened():
    import copy

    torch.manual_seed(0)
    theirs = nn.TransformerDecoderLayer(64, 4, dim_feedforward=96, batch_first=True).eval()
    ours = open_attention(copy.deepcopy(theirs))
    x, memory = torch.randn(2, 6, 64), torch.randn(2, 9, 64)
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    with torch.no_grad():
        expected = theirs(x, memory, tgt_mask=causal, tgt_is_causal=True)
        torch.testing.assert_close(
            ours(x, memory, tgt_mask=causal, tgt_is_causal=True), expected, rtol=1e-5, atol=1e-5
        )


def test_a_quantized_encoder_is_close_to_the_float_one():
    theirs = nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False).eval()
    quantized = quantize(theirs)
    names = {layer.name for layer in quantized.layers if layer.quantized}
    assert {f"layers.1.self_attn.{p}" for p in ("q_proj", "k_proj", "v_proj", "out_proj")} < names
    assert len(names) == 12
    x = torch.randn(2, 10, 64)
    with torch.no_grad():
        expected, found = theirs(x), quantized(x)
    quality = 10 * torch.log10(expected.square().sum() / (expected - found).square().sum())
    assert quality > 12
