"""The neuron-groups widget: what it holds, and what it does in a browser under mouse, keyboard and touch."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from interp.draw import hues
from interp.draw.groups_widget import groups_widget, intensities
from interp.lit.report.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \u2028\ud800 {{ 7 * 7 }}"
IMAGES, GROUPS, SIDE = 3, 4, 5


def widget(labels=("a dog", "a cat", "a tree"), name="", **changes) -> str:
    """Three images of 20 x 20, four groups on 5 x 5 positions, effects on two classes."""
    draw = torch.Generator().manual_seed(0)
    inputs = {
        "images": torch.rand(IMAGES, 3, 20, 20, generator=draw),
        "labels": labels,
        "spatial": torch.rand(IMAGES, GROUPS, SIDE, SIDE, generator=draw).pow(3) * 7,
        "icons": torch.rand(GROUPS, 3, 8, 8, generator=draw),
        "effects": torch.randn(IMAGES, GROUPS, 2, generator=draw) * 3,
        "class_names": [(f"{name}first of {label}", f"{name}second of {label}") for label in labels],
        "caption": f"They leave 28% unexplained.{name}",
    }
    return groups_widget(**inputs | changes)


def data(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/\w+;base64,(.*?)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def test_the_maps_are_the_input_over_its_99th_percentile():
    spatial = torch.rand(IMAGES, GROUPS, 6, 9, generator=torch.Generator().manual_seed(1)).pow(4) * 30
    kept = data(widget(spatial=spatial))
    expected = (spatial / spatial.quantile(0.99)).clamp(0, 1).mul(255).round().byte()
    assert (kept["groups"], kept["height"], kept["width"]) == (GROUPS, 6, 9)
    assert base64.b64decode(kept["maps"]) == expected.numpy().tobytes()
    assert 0.005 < (expected == 255).float().mean() < 0.02


def test_maps_of_almost_only_zeros_and_of_zeros_alone():
    spatial = torch.zeros(1, 2, 20, 20)
    assert not intensities(spatial).any()
    spatial[0, 0, 0, :2] = torch.tensor([2.0, 1.0])
    assert intensities(spatial)[0, 0, 0, :3].tolist() == [255, 128, 0]


def test_small_images_are_kept_exactly_and_large_ones_small():
    small = torch.rand(IMAGES, 1, 20, 30)
    kept = pictures(widget(images=small))
    assert np.array_equal(kept[0][..., 2], (small[0, 0] * 255).round().byte().numpy())
    y, x = np.mgrid[:600, :900] / 50
    waves = torch.from_numpy(np.stack([np.sin(x + c) * np.cos(y - c) / 2 + 0.5 for c in range(3)]))
    large = pictures(widget(images=waves.expand(IMAGES, -1, -1, -1)))[0]
    assert large.shape == (256, 384, 3)
    assert abs(large[128, 192] / 255.0 - waves[:, 300, 450].numpy()).max() < 0.05


def test_it_stays_small_and_is_always_the_same():
    photos = torch.nn.functional.interpolate(torch.rand(12, 3, 28, 28), size=224, mode="bicubic").clamp(0, 1)
    full = {"images": photos, "spatial": torch.rand(12, 6, 14, 14), "icons": photos[:6, :, :64, :64]}
    effects = {"effects": torch.randn(12, 6, 5), "class_names": [tuple("abcde")] * 12}
    html = widget(labels=["a name"] * 12, **full, **effects)
    assert len(html) < 500_000 and html == widget(labels=["a name"] * 12, **full, **effects)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial": torch.rand(2, 4, 5, 5)}, "maps of 2 images, but 3 images and 3 labels"),
        ({"spatial": -torch.rand(3, 4, 5, 5)}, "not negative, but these are"),
        ({"spatial": torch.full((3, 4, 5, 5), torch.nan)}, "the maps hold 300 NaN"),
        ({"icons": torch.rand(3, 3, 8, 8)}, "4 groups, but 3 icons"),
        ({"class_names": None}, "come together"),
        ({"effects": torch.rand(3, 2, 2)}, r"effects \(3, 2, 2\) of 4 groups on 3 images with \[2, 2, 2\] classes"),
        ({"effects": torch.full((3, 4, 2), torch.inf)}, "the effects hold 24 NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        widget(**changes)


def test_it_names_nothing_elsewhere_and_hostile_names_are_text():
    html = widget(labels=[EVIL] * IMAGES, name=EVIL)
    code = re.sub(r'base64,[^"]*|"maps": ?"[^"]*"', "", html)
    assert not re.search(r"https?:|//\w+\.\w|@import|url\(|<link|<base|\son\w+=", code.replace("onerror=alert(1)", ""))
    assert "<script>alert" not in html and "<img src=x" not in html and html.count("</script>") == 2
    assert data(html)["classes"][0][0].startswith(f"{EVIL}first") and html.encode()


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page of HTML; afterwards it must have asked for nothing else, said nothing and opened no dialog."""
    heard, pages = [], []

    def open_page(html: str, **options):
        page = browser.new_page(**{"viewport": {"width": 900, "height": 900}} | options)
        pages.append(page)
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        page.on("request", lambda request: heard.append(request.url[:99]))
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.goto(f"file://{tmp_path}/page.html")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [each for each in heard if not each.startswith(("data:image/", f"file://{tmp_path}"))] == []


READ = """(canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def canvas(page, view: str) -> np.ndarray:
    """RGBA (h, w, 4) of the canvas in a view."""
    return np.array(page.locator(f"{view} canvas").first.evaluate(READ)).reshape(SIDE, SIDE, 4)


def lightened(html: str, image: int, groups: list[int]) -> np.ndarray:
    """What the black square must show: (h, w, 3)."""
    maps = np.frombuffer(base64.b64decode(data(html)["maps"]), np.uint8).reshape(IMAGES, GROUPS, SIDE, SIDE)
    return (maps[image, groups, ..., None] * hues(GROUPS).numpy()[groups, None, None]).max(axis=0)


def shows(page, html: str, groups: list[int], image: int = 0) -> bool:
    """Whether both views show exactly these groups of the image, mixed by 'lighten'."""
    expected = lightened(html, image, groups)
    alone, veil = canvas(page, ".alone"), canvas(page, ".over").astype(float)
    laid = veil[..., :3] * veil[..., 3:] / 0.85 / 255  # premultiplied bytes: coarse where the veil is thin
    return (
        abs(alone[..., :3] - expected).max() <= 2 and abs(laid - expected).max() <= 6 and (alone[..., 3] == 255).all()
    )


def opacities(page) -> list[float]:
    return page.locator(".tile").evaluate_all("tiles => tiles.map(tile => Number(tile.style.opacity))")


EVERY = list(range(GROUPS))


def test_hovering_a_group_shows_it_alone_and_leaving_restores(show):
    page = show(html := widget())
    before = page.locator(".views").screenshot()
    assert shows(page, html, EVERY)
    page.locator("button").nth(2).hover()
    assert shows(page, html, [2]) and page.locator(".what").text_content() == "Group 3 alone"
    assert page.locator(".views").screenshot() != before
    page.locator(".bar").nth(1).hover()  # its effect stands for it
    assert shows(page, html, [1])
    page.locator(".caption").hover()
    assert shows(page, html, EVERY) and page.locator(".views").screenshot() == before


def test_the_keyboard_reaches_images_groups_and_positions(show):
    page = show(html := widget())
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert shows(page, html, EVERY, image=1) and page.locator(".which").text_content() == "a cat"
    assert page.locator("[role=rowheader]").all_text_contents() == ["first of a cat", "second of a cat"]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.locator(".reading").text_content().startswith("Row 3, column 4: group ")
    page.keyboard.press("Tab")
    assert shows(page, html, [0], image=1) and opacities(page) == [1.0] * GROUPS
    assert page.locator("button").first.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert shows(page, html, [1], image=1)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert shows(page, html, [0], image=1) and page.locator("[aria-pressed=true]").count() == 1  # Enter kept it
    page.keyboard.press("Escape")
    assert shows(page, html, EVERY, image=1)


def test_a_position_fades_the_groups_by_how_weak_they_are_there(show):
    page = show(html := widget())
    box = page.locator(".alone").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.1)  # row 1, column 4
    maps = np.frombuffer(base64.b64decode(data(html)["maps"]), np.uint8).reshape(IMAGES, GROUPS, SIDE, SIDE)
    there = maps[0, :, 0, 3] / 255
    assert np.allclose(opacities(page), 0.1 + 0.9 * there, atol=1e-4) and np.ptp(there) > 0.1
    strongest = f"group {there.argmax() + 1} at {there.max() * 100:.0f}%"
    assert page.locator(".reading").text_content().startswith(f"Row 1, column 4: {strongest}")
    page.mouse.move(0, 0)
    assert opacities(page) == [1.0] * GROUPS and "Row" not in page.locator(".reading").text_content()


def test_a_finger_keeps_a_group_and_a_position(show):
    page = show(html := widget(), has_touch=True, viewport={"width": 360, "height": 700})
    page.locator("button").nth(3).tap()
    assert shows(page, html, [3])
    page.locator(".over").tap()
    assert page.locator(".reading").text_content().startswith("Row 3, column 3") and shows(page, html, [3])
    page.locator("button").nth(3).tap()
    assert shows(page, html, EVERY) and "Row" not in page.locator(".reading").text_content()


def test_effects_are_bars_and_numbers_with_their_sign(show):
    page = show(widget(effects=torch.tensor([[[2.5, -5.0], [0.0, 1.25], [-0.001, 3.0], [1.0, 1.0]]]).expand(3, -1, -1)))
    rows = page.locator(".value").all_text_contents()
    assert rows == ["+2.50", "0.00", "0.00", "+1.00", "\u22125.00", "+1.25", "+3.00", "+1.00"]
    blocks = "bars => bars.map(bar => [bar.offsetTop, bar.offsetHeight, getComputedStyle(bar).backgroundColor])"
    (top, height, up), *_, (_, _, other) = found = page.locator(".bar b").evaluate_all(blocks)
    down = found[4]
    assert up == other == "rgb(196, 87, 10)" and down[2] == "rgb(31, 111, 208)"  # orange, blue
    assert abs(down[1] - 2 * height) <= 1 and abs(top + height - down[0]) <= 1  # from one zero line on
    assert "logits" in page.locator(".legend").text_content() and "5.00" in page.locator(".scale").text_content()


@pytest.mark.parametrize(
    ("scale", "shown"), [(0.0, "0.00"), (0.0123, "+0.012"), (23.4, "+23.4"), (456.7, "+457"), (1e-6, "+1.0e-6")]
)
def test_numbers_have_about_three_digits_at_every_scale(show, scale, shown):
    page = show(widget(effects=torch.full((IMAGES, GROUPS, 2), scale)))
    assert page.locator(".value").first.text_content() == shown


CONTRAST = """() => {
  const light = (colour) => {
    const linear = (c) => (c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.match(/[\\d.]+/g).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const root = document.querySelector(".neuron-groups");
  const names = ".reading, figcaption, .number, .name, .value, .legend span, .caption";
  const under = getComputedStyle(root).backgroundColor;
  const bars = [...root.querySelectorAll(".bar b")].map((bar) => ratio(getComputedStyle(bar).backgroundColor, under));
  const texts = [...root.querySelectorAll(names)].map((text) => ratio(getComputedStyle(text).color, under));
  return [under, Math.min(...texts), Math.min(...bars)];
}"""


@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(28, 31, 35)")])
def test_text_can_be_read_in_light_and_dark(show, scheme, background):
    under, text, bars = show(widget(), color_scheme=scheme).evaluate(CONTRAST)
    assert under == background and text >= 4.5 and bars >= 3  # WCAG 2.2, level AA


@pytest.mark.parametrize("width", [320, 700, 1600])
def test_nothing_sticks_out(show, width):
    page = show(widget(name="an uncommonly long name of a class, " * 3), viewport={"width": width, "height": 600})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("button").last.bounding_box()["x"] + 46 <= width


def test_hostile_names_are_shown_as_they_are(show):
    page = show(html := widget(labels=[EVIL] * IMAGES, name=EVIL))
    shown = page.locator("[role=rowheader], .which, .caption").all_text_contents()
    assert len(shown) == 4 and all("<script>alert(1)</script>" in text and "{{ 7 * 7 }}" in text for text in shown)
    assert shows(page, html, EVERY)


def test_bare_of_effects_and_icons_it_still_works(show):
    bare = {"icons": None, "effects": None, "class_names": None, "caption": ""}
    page = show(html := widget(**bare))
    page.locator("button").nth(1).hover()
    assert shows(page, html, [1]) and page.locator(".bar, .scale, .caption, .corner:visible").count() == 0


NOTEBOOK = """htmls => htmls.forEach((html) => {
  const output = document.body.appendChild(document.createElement("section"));
  output.innerHTML = html;
  for (const old of output.querySelectorAll("script")) {  // as notebooks do it: set this way, scripts do not run
    const script = document.createElement("script");
    for (const { name, value } of old.attributes) script.setAttribute(name, value);
    script.textContent = old.textContent;
    old.replaceWith(script);
  }
})"""


def test_two_in_a_notebook_keep_out_of_each_others_and_the_pages_way(show):
    page = show("<!doctype html><body style='margin: 7px'><p>a notebook</p></body>")
    page.evaluate(NOTEBOOK, [html := widget(), widget()])
    page.locator("section:last-of-type input").nth(2).check(force=True)
    page.locator("section:last-of-type button").nth(0).hover()
    assert shows(page, html, EVERY) and page.locator("input:checked").count() == 2
    assert page.locator(".which").all_text_contents() == ["a dog", "a tree"]
    assert page.locator(".what").all_text_contents() == ["All 4 groups", "Group 1 alone"]
    plain = page.evaluate("[getComputedStyle(document.body).margin, getComputedStyle(document.body).backgroundColor]")
    assert plain == ["7px", "rgba(0, 0, 0, 0)"] and page.evaluate("window.name") == ""


def test_in_the_report_it_has_its_full_height_and_keeps_its_state_over_epochs(show, tmp_path):
    for epoch, scale in enumerate((1.0, 2.0)):
        folder = tmp_path / "results" / "nmf" / f"epoch={epoch:04d}"
        folder.mkdir(parents=True)
        html = widget(effects=torch.full((IMAGES, GROUPS, 2), scale))
        (folder / "explorer.html").write_text(html)
    page = show(render(tmp_path))
    inside = page.frame_locator("iframe")
    inside.locator("input").nth(2).check(force=True)
    inside.locator("button").nth(1).click()
    page.wait_for_function("document.querySelector('iframe').clientHeight > 450")
    page.locator("#epoch-0").fill("0")
    inside.get_by_text("+1.00").first.wait_for()
    assert inside.locator(".which").text_content() == "a tree"
    assert inside.locator(".what").text_content() == "Group 2 alone"
    assert page.frames[1].evaluate("document.documentElement.scrollHeight <= innerHeight")
