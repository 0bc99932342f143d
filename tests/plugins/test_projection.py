"""Projections: measures against scikit-learn, planted groups, points that move instead of jumping, and the widget."""

import math
import shutil
import sys
import tracemalloc
from dataclasses import replace

import pytest
import torch
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from interp import projection
from interp.draw.colour import class_colours
from interp.draw.scatter import scatter, unit_square
from interp.draw.scatter_widget import scatter_widget
from interp.errors import UserError
from interp.projection import embed, measures, movement, project, reduce, turned
from interp.result import FRAMES
from plugins.projection import ProjectionPlugin, plugin

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def groups(count: int = 60, classes: int = 3, spread: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (count, 8) in well separated groups, and the group of each."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, 8, generator=torch.Generator().manual_seed(9)) * 2
    return centres[labels] + spread * torch.randn(count, 8, generator=draw), labels


@pytest.mark.parametrize(("count", "near", "dtype"), [(700, 10, "float32"), (300, 7, "float64"), (64, 10, "float32")])
def test_trustworthiness_in_blocks_is_scikit_learns(monkeypatch, count, near, dtype):
    monkeypatch.setattr(projection, "BLOCK", 0.1)
    vectors, _ = groups(count, spread=2.0)
    vectors[count // 2 :: 5] = vectors[0]  # ties, too
    layout = vectors[:, :2] + torch.randn(count, 2, generator=torch.Generator().manual_seed(1))
    arrays = [part.numpy().astype(dtype) for part in (vectors, layout)]
    assert projection.trustworthiness(*arrays, near) == trustworthiness(*arrays, n_neighbors=near)


def test_measures_of_many_images_keep_no_distances_of_all_to_all(monkeypatch):
    """Beyond what they are given: a small part of the 32 MB that 2,000 x 2,000 distances take, several times over."""
    vectors, labels = groups(2000, classes=50, spread=4.0)
    layout = vectors[:, :2].contiguous()
    whole = movement(layout, vectors[:, 2:4])
    monkeypatch.setattr(projection, "BLOCK", 1)
    assert movement(layout, vectors[:, 2:4]) == pytest.approx(whole, rel=1e-6)
    measures(vectors[:100], labels[:100], layout[:100])  # imports
    tracemalloc.start()
    measures(vectors, labels, layout)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6


def test_measures_equal_scikit_learns():
    vectors, labels = groups(spread=4.0)
    layout = torch.randn(60, 2, generator=torch.Generator().manual_seed(3))
    found = measures(vectors, labels, layout)
    alone = cross_val_predict(KNeighborsClassifier(10), vectors.numpy(), labels.numpy(), cv=LeaveOneOut())
    assert found["knn_accuracy"] == pytest.approx((alone == labels.numpy()).mean()) and 0.3 < found["knn_accuracy"] < 1
    in_plane = cross_val_predict(KNeighborsClassifier(10), layout.numpy(), labels.numpy(), cv=LeaveOneOut())
    assert found["layout_knn_accuracy"] == pytest.approx((in_plane == labels.numpy()).mean())
    assert found["trustworthiness"] == pytest.approx(trustworthiness(vectors, layout, n_neighbors=10))
    assert found["silhouette"] == pytest.approx(silhouette_score(vectors, labels))


def test_measures_leave_out_what_labels_do_not_allow():
    vectors, labels = groups()
    layout = vectors[:, :2]
    assert set(measures(vectors, torch.full_like(labels, -1), layout)) == {"trustworthiness"}
    assert set(measures(vectors, torch.zeros_like(labels), layout)) == {"trustworthiness"}
    some = labels.where(torch.arange(60) < 30, -1)
    known = measures(vectors[:30], labels[:30], layout[:30])
    assert measures(vectors, some, layout)["silhouette"] == known["silhouette"]


@pytest.mark.parametrize("method", ["tsne", "pca", "umap"])
def test_planted_groups_are_apart_in_the_plane(method):
    if method == "umap":
        pytest.importorskip("umap", reason="the extra `umap` is not installed")
    vectors, labels = groups()
    layout = project(reduce(vectors)[0], method, iterations=300)
    found = measures(vectors, labels, layout)
    assert found["layout_knn_accuracy"] == 1 and found["trustworthiness"] > 0.9
    assert torch.equal(layout, project(reduce(vectors)[0], method, iterations=300))


def test_principal_components_keep_distances_and_variance():
    vectors, _ = groups(spread=2.0)
    all_of_them, share = reduce(vectors)
    torch.testing.assert_close(torch.pdist(all_of_them), torch.pdist(vectors), atol=1e-4, rtol=1e-4)
    assert share == pytest.approx(1.0) and 0.3 < reduce(vectors, 2)[1] < 1


def test_from_the_last_layout_points_move_instead_of_jumping():
    before, _ = groups(100, 5, spread=0.5)
    after = before + 0.15 * torch.randn(before.shape, generator=torch.Generator().manual_seed(5))
    anywhere = 10 * torch.randn(100, 2, generator=torch.Generator().manual_seed(1))
    last = project(reduce(before)[0], start=anywhere, iterations=300)
    moved, anew = (project(reduce(after)[0], start=start, iterations=300) for start in (last, None))
    assert movement(moved, last) < 0.1 and movement(moved, last) < 0.5 * movement(turned(anew, last), last)


def test_layouts_are_turned_onto_each_other():
    layout, angle = torch.randn(20, 2), torch.tensor(2.0)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    torch.testing.assert_close(turned(layout @ turn + 5, layout), layout - layout.mean(dim=0), atol=1e-5, rtol=1e-5)
    assert movement(layout, 3 * layout) == pytest.approx(0, abs=1e-5)


def test_a_network_that_says_the_same_of_all_images_is_shown_too():
    same, share = reduce(torch.ones(20, 8))
    layout = project(same, iterations=250)
    assert share == 1 and layout.isfinite().all()
    assert all(map(math.isfinite, measures(same, torch.arange(20) % 2, layout).values()))
    assert scatter(torch.zeros(3, 2), torch.zeros(3, 3)).shape == (3, 720, 720)


def test_a_layer_is_averaged_over_its_positions_or_tokens(digits, net):
    from torchvision.models import VisionTransformer

    images, labels = digits.probe.images[:6], digits.probe.labels[:6]
    net.eval()
    found = embed(net, [(images[:4], labels[:4]), (images[4:], labels[4:])], "block2")
    with torch.no_grad():
        expected = net.body.block2(net.body.block1((images - net.mean) / net.std)).mean(dim=(2, 3))
        torch.testing.assert_close(found.vectors, expected)
        assert torch.equal(found.predicted, net(images).argmax(dim=1)) and torch.equal(found.labels, labels)
    read = embed(net, [(images, labels)])
    torch.testing.assert_close(read.vectors @ net.body.head.weight.T + net.body.head.bias, net(images))
    torch.testing.assert_close(read.thumbnails.float() / 255, images, atol=1 / 255, rtol=0)
    transformer = VisionTransformer(16, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3).eval()
    coloured = [(images.expand(-1, 3, -1, -1), labels)]
    assert embed(transformer, coloured).vectors.shape == embed(transformer, coloured, "encoder").vectors.shape == (6, 8)


def test_what_cannot_be_embedded_is_said(digits, net, monkeypatch):
    batch = [(digits.probe.images[:6], digits.probe.labels[:6])]
    with pytest.raises(UserError, match="no layer 'blok2'.*did you mean 'block2'"):
        embed(net, batch, "blok2")
    with pytest.raises(UserError, match="no linear layer whose input"):
        embed(nn.Sequential(nn.Conv2d(1, 4, 16), nn.Flatten()), batch)
    with pytest.raises(UserError, match="at least 5 images, there are 3"):
        project(torch.rand(3, 2))
    with pytest.raises(UserError, match="plugin.p.method 'tsnee'; did you mean 'tsne'"):
        ProjectionPlugin(name="p", method="tsnee")
    with pytest.raises(UserError, match="plugin.p.iterations=100: must be at least 250"):
        ProjectionPlugin(name="p", iterations=100)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match="needs the extra `umap`"):
        project(torch.rand(9, 2), "umap")


def test_a_chosen_part_of_the_validation_set_is_balanced_and_stated(digits, net):
    result = ProjectionPlugin(name="p", method="pca", images=50).look(net, digits.probe)
    assert result.labels.bincount().tolist() == [5] * 10
    assert "50 of 359 validation images, balanced" in result.captions()["scatter"]
    assert "All of that is of these 50 images, by the" in result.captions()["scatter"]
    probe = replace(digits.probe, dataset=None, labels=torch.full_like(digits.probe.labels, -1))
    unknown = ProjectionPlugin(name="p", method="pca").look(net, probe)
    assert len(unknown.labels) == len(probe) and not unknown.wrong.any() and unknown.pictures()


def test_images_without_a_class_are_called_by_their_own_name(digits, net):
    class Photographs(type(digits.splits.val)):
        image_names = tuple(f"{n}.jpg" for n in range(len(digits.splits.val)))

    photographs = Photographs(digits.splits.val.images, torch.full_like(digits.splits.val.targets, -1))
    result = ProjectionPlugin(name="p", method="pca", images=20).look(net, replace(digits.probe, dataset=photographs))
    thumbnails = torch.stack([photographs[int(name.removesuffix(".jpg"))][0] for name in result.image_names])
    torch.testing.assert_close(result.thumbnails.float() / 255, thumbnails, atol=1 / 255, rtol=0)
    assert result.image_names[7] in result.widgets()["explore"]

    class Writer:
        def add_embedding(self, _vectors, rows, *_, **__):
            assert [row[0] for row in rows] == list(result.image_names)

    result.to_tensorboard(Writer(), "p", 0)
    assert ProjectionPlugin(name="p", method="pca", images=20).look(net, digits.probe).image_names == ()


def test_thumbnails_of_many_images_are_smaller(digits, net, monkeypatch):
    sizes = {}
    for pixels in (2**22, 50 * 12**2, 9):
        monkeypatch.setattr(plugin, "PIXELS", pixels)
        result = ProjectionPlugin(name="p", method="pca", images=50).look(net, digits.probe)
        sizes[pixels] = result.thumbnails.shape
    assert list(sizes.values()) == [(50, 1, 16, 16), (50, 1, 12, 12), (50, 1, 8, 8)]


def test_the_film_grows_and_keeps_its_first_layout(digits, net):
    first = ProjectionPlugin(name="p", method="pca", images=20).look(net, digits.probe)
    result = first
    for _ in range(FRAMES + 3):
        result = first.following(result)
    assert len(result.film) == len(result.looks) <= FRAMES and result.looks[-1] == FRAMES + 3
    assert torch.equal(result.film[0], first.film[0]) and {"scatter", "film"} == set(result.pictures())
    assert result.scalars()["movement"] == pytest.approx(0, abs=1e-4)
    other = replace(first, layout=first.layout[:5])
    assert first.following(other) is first


def test_a_thousand_classes_have_colours_but_no_legend(digits, net):
    first = ProjectionPlugin(name="p", method="pca", images=20).look(net, digits.probe)
    many = replace(first, class_names=tuple(f"class {j}" for j in range(1000)))
    assert many.pictures()["scatter"].shape == (3, 720, 720) and '<ul class="legend">' not in many.widgets()["explore"]
    assert class_colours(torch.tensor([0, 999, -1]), 1000).shape == (3, 3)


def test_marks_are_drawn_and_points_lie_where_they_should():
    points = torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    assert unit_square(points).tolist() == [[0.0, 0.75], [1.0, 0.25]]
    plain = scatter(points, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), side=200)
    crossed = scatter(points, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]), torch.tensor([False, True]), side=200)
    different = (plain != crossed).any(dim=0).nonzero()
    assert len(different) and different[:, 1].min() > 150 and different[:, 0].max() < 100


def test_tensorboards_projector_receives_vectors_labels_and_images(digits, net, tmp_path):
    from interp.lit.sinks import TensorBoard
    from plugins.base.sinks import show

    result = ProjectionPlugin(name="p", method="pca", images=20).look(net, digits.probe)
    logger = TensorBoard(str(tmp_path), name="tensorboard", version="")
    show(result, tmp_path / "results", "projection", [logger], epoch=1, step=7)
    logger.finalize("success")
    folder = tmp_path / "tensorboard" / "00007" / "projection"
    rows = [line.split("\t") for line in (folder / "metadata.tsv").read_text().splitlines()]
    assert rows[0] == ["class", "predicted", "wrong"] and len(rows) == 21
    assert [row[0] for row in rows[1:]] == [str(label) for label in result.labels.tolist()]
    sent = [[float(v) for v in line.split("\t")] for line in (folder / "tensors.tsv").read_text().splitlines()]
    torch.testing.assert_close(torch.tensor(sent), result.vectors, atol=1e-4, rtol=1e-4)
    assert "projection" in (tmp_path / "tensorboard" / "projector_config.pbtxt").read_text()
    assert (folder / "sprite.png").is_file()
    written = []
    writer = type("Writer", (), {"add_embedding": lambda self, vectors, rows, *_, **__: written.extend(rows)})()
    names = tuple(f"a\tb\nc {j}" for j in range(10))
    replace(result, class_names=names).to_tensorboard(writer, "projection", 0)
    assert written[0][0] == f"a b c {int(result.labels[0])}"


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page():
    """The widget of four points and two looks, opened in Chromium; afterwards it must have asked for nothing else."""
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    images = torch.arange(4).view(4, 1, 1, 1).expand(4, 1, 8, 8).mul(60).byte()
    html = scatter_widget(
        torch.stack([square.flip(0), square]), ["0", "1"], torch.tensor([0, 1, 1, -1]), torch.tensor([0, 1, 0, 0]),
        ["cat", f"dog {EVIL}"], images, "A caption.",
    )  # fmt: skip
    assert "<script>alert" not in html and html.count("</script>") == 2 and "http://www.w3.org/2000/svg" in html
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, said = browser.new_page(viewport={"width": 800, "height": 700}), []
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith("data:") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
        page.set_content(html)
        yield page
        assert not said
        browser.close()


def test_pointing_shows_the_image_and_its_class(page):
    circles = page.locator("g circle")
    assert circles.count() == 4 and page.locator("circle.wrong").count() == 1
    page.wait_for_timeout(600)
    circles.nth(2).hover(force=True)
    assert page.locator(".embeddings").get_attribute("data-at") == "2"
    assert page.locator(".reading").inner_text().endswith("predicted as cat")
    grey = page.locator(".image").screenshot()
    page.locator(".caption").hover()
    assert page.locator(".embeddings").get_attribute("data-at") == "" and page.locator(".image").screenshot() != grey


def test_keys_go_from_point_to_point_and_escape_leaves(page):
    page.locator("svg").focus()
    seen = []
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(page.locator(".embeddings").get_attribute("data-at"))
    assert len(seen[0]) == 1 and seen[-3:] == ["1", "2", "2"]
    page.keyboard.press("Escape")
    assert page.locator(".embeddings").get_attribute("data-at") == ""


def test_filters_and_the_slider_over_looks(page):
    page.locator("select").select_option("1")
    assert page.locator("g circle:not(.quiet)").count() == 2
    page.locator("input[type=checkbox]").check()
    assert page.locator("g circle:not(.quiet)").count() == 1
    page.locator("select").select_option("")
    page.locator("input[type=checkbox]").uncheck()
    place = "circle => circle.style.transform"
    before = page.locator("g circle").first.evaluate(place)
    page.locator("input[type=range]").fill("0")
    assert page.locator("g circle").first.evaluate(place) != before and page.locator("output").inner_text() == "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_and_narrow(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 700})
    paper = page.locator(".embeddings").evaluate("root => getComputedStyle(root).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(23, 23, 27)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
