"""The report in a browser: what is near is shown, epochs compared, found by name, enlarged, all of it by keyboard."""

import base64
import io

import pytest
from PIL import Image

from interp.lit.report.logger import Report
from interp.lit.report.page import write
from tests.lit.test_report import CHROMIUM, figure

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
WIDGET = """<p>widget of epoch {epoch} after <b></b></p><script>
document.querySelector("b").textContent = window.name;
parent.postMessage({{height: {height}, state: "epoch {epoch}"}}, "*");
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four epochs of two studies, one with a widget, and two scalars."""
    folder = tmp_path_factory.mktemp("a run") / "50% of #1"
    report = Report(folder)
    for epoch in range(4):
        target = figure(folder, "nmf", epoch, caption=f"groups of epoch {epoch}", relative_error=0.6 - epoch / 20)
        (target / "explorer.html").write_text(WIDGET.format(height=150 + epoch, epoch=epoch))
        for number in range(6):
            figure(folder, "saliency", epoch, f"panels {number}", "what pushed the logit", (640, 400))
        report.log_metrics({"train/loss": 0.5**epoch, "val/accuracy": 0.9, "epoch": epoch}, epoch * 10)
    return folder


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    with sync.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(params=[True, False], ids=["embedded", "beside"])
def page(folder, browser, request):
    """The page, which must not complain of anything."""
    write(folder, "a run", embed=request.param)
    page, heard = browser.new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto((folder / "report.html").as_uri())
    yield page
    page.close()
    assert heard == []


def move(page, name: str, to: int) -> None:
    page.get_by_role("slider", name=name, exact=True).fill(str(to))


def pixels(locator) -> bytes:
    """What the browser shows of a picture, in the picture's own size."""
    size = locator.evaluate(
        "async (image) => { await image.decode(); return [image.naturalWidth, image.naturalHeight]; }"
    )
    shown = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return shown.resize(size, Image.Resampling.NEAREST).tobytes()


def expected(folder, plugin: str, epoch: int, name: str) -> bytes:
    return Image.open(folder / "results" / plugin / f"epoch={epoch:04d}" / f"{name}.png").convert("RGB").tobytes()


def shot(page, name: str):
    return page.locator(f'figure[data-name="{name}"]')


def test_a_slider_shows_its_epoch_and_all_figures_follow_the_first_one(page, folder):
    groups = shot(page, "nmf/groups")
    move(page, "groups", 1)
    assert groups.locator("figcaption").text_content() == "groups of epoch 1"
    assert pixels(groups.locator("img")) == expected(folder, "nmf", 1, "groups")
    page.get_by_role("slider", name="All figures").press("Home")
    assert groups.locator("output").text_content() == "before training"
    explorer = shot(page, "nmf/explorer").locator("iframe")
    explorer.content_frame.get_by_text("widget of epoch 0").wait_for()
    page.wait_for_function("() => document.querySelector('iframe').style.height === '152px'")
    move(page, "explorer", 2)
    explorer.content_frame.get_by_text("widget of epoch 2 after epoch 0").wait_for()  # its state goes with it
    assert page.evaluate("history.length") == 2  # the empty tab and this page: back leads away, not to another epoch


def test_only_pictures_near_the_window_are_loaded_until_one_prints(page):
    far = shot(page, "saliency/panels 5").locator("img")
    assert far.get_attribute("src") is None and far.get_attribute("width") == "640"
    far.scroll_into_view_if_needed()
    page.wait_for_function("(image) => image.complete && image.naturalWidth === 640", arg=far.element_handle())
    move(page, "All figures", 0)
    last = shot(page, "saliency/panels 0").locator("img")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert last.get_attribute("alt") == "panels 0, before training"


def test_a_pinned_epoch_stays_beside_the_others(page, folder):
    groups = shot(page, "nmf/groups")
    move(page, "groups", 1)
    pin = groups.get_by_role("button", name="Pin")
    pin.press("Enter")
    move(page, "groups", 3)
    old, new = groups.locator(".shot").all()
    assert [old.locator(".of").text_content(), new.locator(".of").text_content()] == ["Pinned: epoch 1", "epoch 3"]
    assert pixels(old.locator("img")) == expected(folder, "nmf", 1, "groups")
    assert pixels(new.locator("img")) == expected(folder, "nmf", 3, "groups")
    assert old.locator("dd").text_content() == "0.55" and new.locator("dd").text_content() == "0.45"
    box, other = old.bounding_box(), new.bounding_box()
    assert box["y"] == other["y"] and box["x"] + box["width"] <= other["x"]
    pin.press("Enter")
    assert groups.locator(".shot").count() == 1 and pin.get_attribute("aria-pressed") == "false"


def test_all_figures_are_pinned_at_once(page):
    everything = page.get_by_role("button", name="Pin this epoch of All figures")
    everything.click()
    move(page, "All figures", 0)
    assert page.locator(".pinned").count() == page.locator("figure").count() == 8
    assert set(page.locator(".pinned .of").all_text_contents()) == {"Pinned: epoch 3"}
    shot(page, "nmf/explorer").locator(".pinned iframe").content_frame.get_by_text("widget of epoch 3").wait_for()
    everything.click()
    assert page.locator(".pinned").count() == 0


def test_search_leaves_what_holds_every_word(page):
    page.keyboard.press("/")
    page.keyboard.type("Panels 3")
    assert page.locator("[data-name]:visible").evaluate_all("all => all.map(each => each.dataset.name)") == [
        "saliency/panels 3"
    ]
    assert page.locator("h2:visible").all_text_contents() == ["saliency"]
    assert page.locator("[role=search] output").text_content() == "1 of 11"
    page.keyboard.press("Escape")
    assert page.locator("[data-name]:visible").count() == 11
    page.keyboard.type("val/acc")
    assert page.locator(".plot:visible").count() == 1 and page.locator("figure:visible").count() == 0
    page.get_by_role("searchbox").fill("nothing/like this")
    assert page.locator("main section:visible").count() == 0
    assert page.locator("[role=search] output").text_content() == "0 of 11"


def test_a_picture_alone_goes_through_its_epochs_by_keyboard(page, folder):
    zoom = shot(page, "nmf/groups").get_by_role("button", name="Full size")
    zoom.press("Enter")
    dialog = page.get_by_role("dialog", name="groups, epoch 3")
    assert dialog.locator("p").text_content() == "groups of epoch 3"
    assert dialog.locator("img").evaluate("image => image.width % 60") == 0  # whole pixels
    assert pixels(dialog.locator("img")) == expected(folder, "nmf", 3, "groups")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("dialog", name="groups, epoch 2").wait_for()
    assert shot(page, "nmf/groups").locator("figcaption").text_content() == "groups of epoch 2"
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert zoom.evaluate("button => button === document.activeElement")
    zoom.click()
    page.locator("dialog img").click()
    assert page.get_by_role("dialog").count() == 0


def test_print_shows_figures_and_no_controls(page):
    page.emulate_media(media="print")
    assert page.locator("#all:visible, .pin:visible, input:visible, .play:visible").count() == 0
    assert page.locator("figure:visible").count() == 8
    assert page.pdf().startswith(b"%PDF")


def test_beside_the_page_nothing_is_embedded(folder):
    write(folder, embed=False)
    text = (folder / "report.html").read_text()
    assert "base64" not in text.split("<script>")[0] and "results/saliency/epoch%3D0002/panels%205.png" in text
    assert "img-src &#39;self&#39; file:;" in text and "unsafe" not in text


def test_a_film_strip_shows_all_epochs_and_leads_to_each(page, folder):
    groups = shot(page, "nmf/groups")
    strip, button = groups.locator(".film"), groups.get_by_role("button", name="Film strip of groups")
    assert not strip.is_visible() and shot(page, "nmf/explorer").locator(".reel").count() == 0
    button.press("Enter")
    frames = groups.get_by_role("group", name="All epochs of groups").get_by_role("button")
    assert frames.all_inner_texts() == ["before training", "epoch 1", "epoch 2", "epoch 3"]
    page.wait_for_function(
        "() => [...document.querySelectorAll('.film img')].every((each) => each.naturalWidth === 60)"
    )
    for epoch in range(4):
        path = f"results/nmf/epoch%3D{epoch:04d}/groups.png"
        inside = base64.b64encode((folder / path.replace("%3D", "=")).read_bytes()).decode()
        assert frames.nth(epoch).locator("img").get_attribute("src") in (path, f"data:image/png;base64,{inside}")
    frames.nth(1).click()
    assert groups.locator("output").text_content() == "epoch 1"
    page.keyboard.press("ArrowRight")
    assert groups.locator("figcaption").text_content() == "groups of epoch 2"
    assert frames.nth(2).evaluate("each => each === document.activeElement")
    assert groups.locator("[aria-current=true]").all_inner_texts() == ["epoch 2"]
    assert groups.locator(".film [tabindex='0']").count() == 1  # one stop of the Tab key, however many epochs
    button.click()
    assert not strip.is_visible() and button.get_attribute("aria-pressed") == "false"
