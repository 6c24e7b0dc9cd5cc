"""The page in a real browser."""

import json
import shutil

import onnx
import pytest
from hostile import HOSTILE
from playwright.sync_api import expect, sync_playwright

import nvfp4_trt

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (1280, 480)


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "these tests need chromium: `make browser` installs it"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser):
    """Return the function that opens a page; at the end nothing may have been said, asked for or raised."""
    contexts, complaints = [], []

    def open_page(path, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda said: complaints.append(said.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.on("request", lambda asked: None if asked.url == path.as_uri() else complaints.append(asked.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("#layers-table_wrapper")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def names(tab, table="layers-table"):
    return tab.locator(f"#{table} tbody tr:visible th").evaluate_all(
        "rows => rows.map(row => row.firstChild.textContent)"
    )


def test_a_column_sorts_both_ways(opened, page):
    tab = opened(page.path)
    assert names(tab) == [layer.name for layer in page.report.layers]
    header = tab.locator("#layers-table thead th", has_text="Bytes")
    sizes = {layer.name: layer.bytes for layer in page.report.layers}
    header.click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    assert [sizes[name] for name in names(tab)] == sorted(sizes.values())
    header.locator("[role=button]").focus()
    tab.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "descending")
    assert [sizes[name] for name in names(tab)] == sorted(sizes.values(), reverse=True)


def test_text_and_precision_filter(opened, page):
    tab = opened(page.path)
    box = tab.get_by_label("Filter").first
    box.fill("quer")
    assert names(tab) == ["query"]
    assert "1 rows of 5" in tab.locator("#layers-table_info").inner_text()
    box.fill("nothing")
    assert tab.get_by_text("No row matches.").is_visible()
    box.fill("")
    tab.get_by_label("Precision", exact=True).select_option("FP4")
    assert len(names(tab)) == 5


def test_the_values_are_those_of_the_chosen_layer(opened, page):
    tab = opened(page.path)
    tab.get_by_role("link", name="pooler", exact=True).click()
    assert tab.get_by_label("Layer", exact=True).input_value() == "pooler"
    layer = {each.name: each for each in page.report.layers}["pooler"]
    shown = tab.locator("#codes-numbers tbody tr td:nth-of-type(1)").all_inner_texts()
    assert [int(text.split(" ")[0].replace(",", "")) for text in shown] == list(layer.weights.counts)
    heights = tab.locator("#codes .column").evaluate_all(
        "columns => columns.map(column => column.querySelector('i').getBoundingClientRect().height)"
    )
    assert heights.index(max(heights)) == layer.weights.counts.index(max(layer.weights.counts))
    tab.get_by_label("Layer", exact=True).select_option("query")
    assert tab.locator("#codes-numbers tbody tr td:nth-of-type(1)").all_inner_texts() != shown


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits(opened, page, width):
    tab = opened(page.path, width)
    for details in tab.locator("details").all():
        details.evaluate("each => each.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    boxes = tab.locator("section h2, .figure, .plot svg:visible, .columns, table").evaluate_all(
        "found => found.map(each => each.getBoundingClientRect()).map(r => [r.left, r.top, r.right, r.bottom])"
    )
    assert len(boxes) > 20
    assert all(right > left and bottom > top and left >= 0 for left, top, right, bottom in boxes)
    for one, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[one + 1 :]:
            apart = other[0] >= right - 1 or other[2] <= left + 1 or other[1] >= bottom - 1 or other[3] <= top + 1
            assert apart, (boxes[one], other)
    sizes = tab.locator(".plot svg:visible text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().height)"
    )
    assert min(sizes) > 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(opened, page, scheme):
    tab = opened(page.path, scheme=scheme)
    lights = {}
    for name in ("ink", "muted", "accent", "good", "bad", "ground", "raised", "bar-1", "bar-2"):
        colour = tab.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        lights[name] = luminance(colour)
    assert (lights["ground"] < 0.1) is (scheme == "dark")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgba(0, 0, 0, 0)"
    for ink in ("ink", "muted", "accent", "good", "bad"):
        for ground in ("ground", "raised"):
            assert contrast(lights[ink], lights[ground]) >= 4.5, (ink, ground)
    assert min(contrast(lights["ink"], lights[bar]) for bar in ("bar-1", "bar-2")) >= 4.5


def luminance(colour):
    """WCAG 2.1, relative luminance of `#rrggbb`."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_data_downloads(opened, page):
    tab = opened(page.path)
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download JSON").click()
    saved = json.loads(download.value.path().read_text())
    assert saved == page.report.model_dump(mode="json")


def test_on_paper_everything_is_unfolded(opened, page):
    tab = opened(page.path)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    assert tab.locator("nav").is_hidden()
    assert tab.locator("#kernels-table").is_visible()
    assert len(tab.pdf()) > 10_000


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan_where_there_is_no_engine(opened, made, tmp_path, width):
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(made.onnx.read_bytes())
    report = nvfp4_trt.report(alone, tmp_path / "p.html", gpu="b200", dims=["batch=8", "sequence=128"]).report
    tab = opened(tmp_path / "p.html", width)
    expect(tab.locator("#planned-table tbody tr")).to_have_count(3)
    first = tab.locator("#planned-table tbody tr").first
    expect(first).to_contain_text("predicted")
    expect(first).to_contain_text(f"{report.plan.gpus[0].engine('nvfp4').microseconds_modelled:,.2f}")
    expect(tab.locator("#bytes")).to_contain_text("B200")
    tab.locator("summary", has_text="kernels of the NVFP4 engine, predicted").click()
    rows = tab.locator("#planned-rows-table tbody tr")
    expect(rows.first).to_be_visible()
    header = tab.locator("#planned-rows-table thead th", has_text="µs")
    header.locator("[role=button]").focus()
    tab.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "ascending")
    times = rows.evaluate_all("rows => rows.map(row => parseFloat(row.cells[7].textContent))")
    assert times == sorted(times)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", WIDTHS)
def test_two_models_on_one_page(opened, page, tmp_path, width):
    made = nvfp4_trt.report(page.path, tmp_path / "pair.html", other=page.path)
    tab = opened(made.page, width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.locator("#summary-table tbody tr").count() > 3
    tab.get_by_label("Filter").fill("pool")
    assert names(tab) == ["pooler"]
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download JSON").click()
    assert set(json.loads(download.value.path().read_text())) == {"report", "other"}


def test_hostile_names(opened, made, tmp_path):
    model = onnx.load(made.onnx)
    for entry in model.metadata_props:
        if entry.key == "nvfp4.layers":
            layers = json.loads(entry.value)
            for layer in layers:
                layer["name"] = layer["name"].replace("query", HOSTILE)
                layer["reason"] = HOSTILE
            entry.value = json.dumps(layers)
        if entry.key == "nvfp4.recipe":
            entry.value = json.dumps(json.loads(entry.value) | {"name": HOSTILE})
        if entry.key == "nvfp4.versions":
            entry.value = json.dumps({HOSTILE: HOSTILE})
    for name in [each.name for each in model.graph.initializer if each.name.startswith("query.")]:
        renamed = name.replace("query", HOSTILE)
        for tensor in model.graph.initializer:
            tensor.name = renamed if tensor.name == name else tensor.name
        for node in model.graph.node:
            node.input[:] = [renamed if each == name else each for each in node.input]
    onnx.save(model, tmp_path / "hostile.onnx")
    report = nvfp4_trt.report(tmp_path / "hostile.onnx", tmp_path / "hostile.html").report
    assert HOSTILE in {layer.name for layer in report.layers if layer.weights}
    tab = opened(tmp_path / "hostile.html")
    assert HOSTILE in names(tab)
    tab.get_by_label("Layer", exact=True).select_option(HOSTILE)
    assert tab.locator("#codes-numbers td").first.inner_text() != "-"
    assert tab.locator("main script, main img, main iframe").count() == 0
