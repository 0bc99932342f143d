"""Files of strangers that lie, explode, run code or lead elsewhere: one clear error or note each, and nothing else."""

import json
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from interp.errors import UserError
from interp.lit.checkpoints.checkpoint import read_checkpoint
from interp.lit.checkpoints.content import check_content
from interp.lit.checkpoints.find import find_checkpoint
from interp.lit.checkpoints.resume import carry_over
from interp.lit.data.folder import images
from interp.lit.report.page import render, write
from interp.lit.safety.yaml_file import read_yaml
from interp.lit.sweep.gather import main as gather
from interp.lit.sweep.jobs import found, job_folders
from interp.lit.sweep.page import read_job
from interp.lit.wandb.file import files
from interp.processes.signals import time_limit
from plugins.base.terminal import print_tables
from plugins.report import main
from tests.lit.test_report import CHROMIUM, EVIL, figure
from tests.studies import Confidence, ConfidencePlugin


def bomb(path: Path, width: int, height: int) -> None:
    """A whole PNG of a few hundred bytes that claims these sizes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**5))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("size", [(9_000, 9_000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_png_bomb_is_refused_before_it_is_decoded(tmp_path, size):
    bomb(tmp_path / "photos" / "bomb.png", *size)
    with pytest.raises(UserError, match=r"cannot read the image .*bomb.png: .*; repair or remove it"):
        _ = images(str(tmp_path / "photos"), 32).val[0]
    folder = figure(tmp_path)
    bomb(folder / "bomb.png", *size)
    page = render(tmp_path)
    assert "nmf/epoch=0000/bomb.png is damaged" in page and page.count('class="shot"') < 2


@pytest.mark.parametrize("scheme", ["http", "https", "s3", "file"])
def test_an_address_is_no_checkpoint(scheme, monkeypatch):
    monkeypatch.setattr("socket.socket", lambda *_, **__: pytest.fail("it was contacted"))
    with pytest.raises(UserError, match="addresses are not read; download the file"):
        find_checkpoint(f"{scheme}://127.0.0.1:1/evil.ckpt", ("last.ckpt",))


class Touch:
    """What a hostile pickle carries."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("old_format", [True, False])
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "callbacks", "loops"])
def test_a_pickle_anywhere_in_a_checkpoint_is_not_run(tmp_path, place, old_format):
    path, pwned = tmp_path / "evil.ckpt", tmp_path / "pwned"
    torch.save({"state_dict": {}, place: {"x": Touch(pwned)}}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UserError, match="evil.ckpt: damaged, or more than weights"):
        read_checkpoint(path)
    assert not pwned.exists()


def lying(path: Path, **header) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", header.pop("length", None) or len(text)) + text + bytes(8))


@pytest.mark.parametrize(
    "header",
    [
        {"highest": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"highest": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 8]}},
        {"highest": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"highest": {"dtype": "EVIL", "shape": [2], "data_offsets": [0, 8]}},
        {"length": 2**62},
        {"other": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
    ],
    ids=["huge", "short", "backwards", "kind", "length", "name"],
)
def test_safetensors_with_a_lying_header_are_named(tmp_path, header, caplog):
    folder = tmp_path / "results" / "sure" / "epoch=0001"
    Confidence(torch.rand(2)).save(folder)
    lying(folder / "result.safetensors", **header)
    main([str(tmp_path)])
    assert "sure/epoch=0001 is not drawn" in caplog.text
    fresh = Confidence(torch.rand(2))
    assert ConfidencePlugin(name="sure").continued(fresh, folder.parent, epoch=2) is fresh
    assert "epoch=0001 cannot be read" in caplog.text


def test_links_out_of_a_run_are_neither_shown_nor_copied_nor_written_through(tmp_path, caplog):
    run, private = tmp_path / "run", tmp_path / "private"
    figure(private, "nmf", 3)
    (private / "notes.txt").write_text("my own notes")
    own = figure(run, "nmf", 1)
    for name in ("stolen.html", "stolen.png"):
        (own / name).symlink_to(private / "notes.txt")
    (run / "results" / "nmf" / "epoch=0003").symlink_to(private / "results" / "nmf" / "epoch=0003")
    (run / "results" / "loop").symlink_to(run / "results")
    (run / "results" / "environment.json").symlink_to(private / "notes.txt")
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").symlink_to(private / "notes.txt")
    before = {path: path.read_bytes() for path in private.rglob("*") if path.is_file()}
    main([str(run), "--redraw"])
    page = (run / "report.html").read_text()
    assert "my own notes" not in page and page.count("leads out of the run&#39;s folder") >= 4
    assert "nmf/epoch=0003 is not drawn: UserError: is a link that leads out" in caplog.text
    assert not [figure for figure in found(run)["figures"] if figure["name"] == "stolen"]
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    carry_over(run / "checkpoints" / "last.ckpt", {"epoch": 4}, tmp_path / "next")
    copied = [path for path in (tmp_path / "next").rglob("*") if path.is_file()]
    assert copied and not any(b"my own notes" in path.read_bytes() for path in copied)
    assert not (tmp_path / "next" / "results" / "loop").exists()
    assert before == {path: path.read_bytes() for path in private.rglob("*") if path.is_file()}


def pipe(path: Path) -> Path:
    """A FIFO, which hangs whoever opens it to read, in place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


PIPES = ("results/metrics.jsonl", "results/environment.json", ".hydra/config.yaml", ".hydra/overrides.yaml", "job.json",
         "results/nmf/epoch=0001/result.json", "results/nmf/epoch=0001/a.png", "results/nmf/epoch=0001/b.html",
         "results/sure/epoch=0001/result.safetensors", "checkpoints/best.ckpt",
         "wandb/offline-run-1-a/run-a.wandb")  # fmt: skip


def test_pipes_in_place_of_files_hang_nobody(tmp_path, caplog):
    run = tmp_path / "sweep" / "0"
    figure(run, "nmf", 1)
    Confidence(torch.rand(2)).save(run / "results" / "sure" / "epoch=0001")
    for name in PIPES:
        pipe(run / name)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    (run / "results" / "nmf" / "epoch=0001" / "lost.png").symlink_to(run / "nowhere")
    with time_limit(30):
        page = render(run)
        main([str(run), "--redraw"])
        gather([str(tmp_path / "sweep")])
        carry_over(run / "checkpoints" / "last.ckpt", {"epoch": 4}, tmp_path / "next")
        assert list(job_folders(tmp_path / "sweep")) == [run] and files(run) == []
        with pytest.raises(UserError, match="pipe is no regular file|no checkpoint"):
            read_checkpoint(pipe(tmp_path / "pipe"))
        with pytest.raises(UserError, match="cannot read /dev/zero: .* is no regular file"):
            read_yaml(Path("/dev/zero"))
    for name in (
        "metrics.jsonl cannot be read",
        "config.yaml cannot be read",
        "a.png",
        "b.html",
        "result.json cannot be",
    ):
        assert name in page, name
    assert page.count("is no regular file") == 6 and "sure/epoch=0001 is not drawn" in caplog.text
    assert not [path for path in (tmp_path / "next").rglob("*") if path.is_fifo()]


def test_sparse_files_fill_no_memory(tmp_path, caplog):
    folder = figure(tmp_path, "nmf", 1)
    names = ("results/metrics.jsonl", ".hydra/config.yaml", "results/nmf/epoch=0001/result.json", "job.json")
    for path in [*(tmp_path / name for name in names), folder / "a.png", folder / "b.html"]:
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(2**40)
    page = render(tmp_path)
    assert page.count("has more than 268,435,456 bytes") == 5
    assert read_job(tmp_path, tmp_path).error.startswith("job.json is damaged")
    with pytest.raises(UserError, match="has more than 1,048,576 bytes"):
        main([str(tmp_path)])


def test_links_that_form_circles_end(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "again").symlink_to(tmp_path)
    with time_limit(30):
        gather([str(tmp_path)])


LINES = [b"\xff\xfe", b'{"step": 1, "epoch": 1, "metrics": {"\xff": 1}}', b'{"step": "x", "epoch": 1, "metrics": {}}',
         b'{"step": 1, "epoch": "1", "metrics": {}}', b'{"step": 1, "epoch": [], "metrics": {}}', b"[1]", b"3", b"null",
         b'{"step": 1, "epoch": 1, "metrics": []}', b'{"step": 1, "epoch": 1, "metrics": {"a": "b"}}', b"{",
         b'{"step": 1, "epoch": 1, "metrics": {"a": [1]}}', b'{"epoch": 1, "metrics": {}}', b"[" * 9000,
         b'{"step": 1' + b"0" * 400 + b', "epoch": 1, "metrics": {}}']  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_an_odd_line_of_the_metrics_costs_itself_alone(tmp_path, line):
    run, whole = tmp_path / "run", b'{"step": 3, "epoch": 1, "metrics": {"a": 1.5, "b": "nan"}}'
    figure(run)
    (run / "results" / "metrics.jsonl").write_bytes(b"\n".join([whole, line, whole.replace(b"3", b"4"), b""]))
    assert "line 2 of metrics.jsonl is damaged" in (page := render(run)) and "line 1 of" not in page
    for name in (".hydra/config.yaml", "checkpoints/last.ckpt"):
        (run / name).parent.mkdir()
        (run / name).write_text("")
    carry_over(run / "checkpoints" / "last.ckpt", {"epoch": 0}, tmp_path / "next")
    assert (tmp_path / "next/results/metrics.jsonl").read_bytes().splitlines() == [whole, whole.replace(b"3", b"4")]


JOB, SHOT = b'{"number": 1, "status": "finished", ', b'{"plugin": "a", "name": "b", "shots": [[1, "%s", 1, 1, ""]]}'


@pytest.mark.parametrize(
    "about",
    [b"{", b"[1]", b"\xff", b'{"number": Infinity}', b'{"number": 1' + b"0" * 400 + b"}", JOB + b'"seconds": {}}',
     JOB + b'"objectives": [1]}', *(JOB + b'"figures": [' + SHOT % path + b"]}" for path in (b"../../x", b"/x"))],
)  # fmt: skip
def test_an_odd_job_json_is_said_to_be_damaged_and_written_anew(tmp_path, about):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "job.json").write_bytes(about)
    assert read_job(tmp_path / "0", tmp_path).error.startswith("job.json is damaged")
    gather([str(tmp_path)])
    assert json.loads((tmp_path / "0" / "job.json").read_text())["figures"] == []


def test_what_strangers_named_does_nothing_to_a_terminal(tmp_path, capsys, caplog):
    evil = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202e"

    class Named(Confidence):
        def tables(self):
            return {evil: ([evil, "b"], [[evil, 1.5], ["c", evil]])}

    print_tables(Named(torch.rand(2)), evil)
    folder = tmp_path / "results" / evil / "epoch=0001"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"class": evil, "captions": {evil: ""}}))
    main([str(tmp_path)])
    gather([str(tmp_path)])
    said = capsys.readouterr()
    terminal = said.out + said.err + caplog.text
    assert terminal.count("a\\x1b[2J\\x1b]0;title\\x07\\x9b31m\\u202e") >= 4 and not set("\x1b\x07\x9b\u202e") & set(
        terminal
    )


def test_a_run_reached_by_a_link_is_shown_as_ever(tmp_path):
    figure(tmp_path / "run", caption="what it shows")
    (tmp_path / "latest").symlink_to(tmp_path / "run")
    assert "what it shows" in render(tmp_path / "latest") and "leads out" not in render(tmp_path / "latest")


NOSY = """<p>here</p><script>
const tell = (what) => fetch("{address}/" + what).catch(() => 0);
tell("fetch"); new Image().src = "{address}/image"; navigator.sendBeacon("{address}/beacon");
const frame = document.createElement("iframe"); frame.src = "{address}/frame"; document.body.append(frame);
const style = document.createElement("link"); style.rel = "stylesheet"; style.href = "{address}/style";
document.head.append(style);
try {{ parent.document.title = "taken"; }} catch (error) {{}}
try {{ window.open("{address}/window"); }} catch (error) {{}}
const form = document.createElement("form"); form.action = "{address}/form"; document.body.append(form); form.submit();
location = "{address}/navigation";
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize("embed", [True, False])
def test_the_content_policy_holds_in_a_browser(tmp_path, embed):
    from tests.end_to_end.conftest import Trap

    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    trap = Trap()
    target = figure(tmp_path, caption=f"{EVIL}<img src={trap.address}/x onerror=\"document.title='taken'\">")
    if embed:  # beside the page a widget is a document of its own, in a sandbox but without the page's policy
        (target / "nosy.html").write_text(NOSY.format(address=trap.address))
    write(tmp_path, EVIL, embed=embed)
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, alerts = browser.new_page(), []
        page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        page.goto((tmp_path / "report.html").as_uri())
        page.locator("figure").last.scroll_into_view_if_needed()
        page.wait_for_timeout(1500)
        assert page.title().startswith("</script>") and "onerror" in page.locator("figcaption").first.text_content()
        page.evaluate("() => { const s = document.createElement('script'); s.text = 'document.title = \"ran\"';"
                      "document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
                      "'<img src=x onerror=\"document.title = 1\">'); }")  # fmt: skip
        page.wait_for_timeout(200)
        assert page.title().startswith("</script>")
        browser.close()
    trap.server.close()
    assert not any(trap.asked) and alerts == []  # connections that ask for nothing are the browser's own guesses


def test_pictures_are_not_named_out_of_the_folder(tmp_path, caplog):
    class Escaping(Confidence):
        def pictures(self):
            return {"../../x": torch.zeros(3, 4, 4, dtype=torch.uint8)}

    plugin = ConfidencePlugin(name="sure")
    plugin.keep(Escaping(torch.rand(2)), tmp_path / "results" / "sure", [], epoch=1, step=0)
    plugin.finish_drawing()
    assert "'../../x' is no name of a picture" in caplog.text
    assert not list(tmp_path.rglob("x.png")) and not (tmp_path.parent / "x.png").exists()


def test_pillow_itself_is_still_trusted_with_ordinary_pictures(tmp_path):
    Image.new("RGB", (4000, 3000)).save(tmp_path / "photo.png")
    assert images(str(tmp_path), 32).val[0][0].shape == (3, 32, 32)


def test_a_checkpoint_that_would_grow_is_refused_before_it_is_read(tmp_path, monkeypatch):
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    assert read_checkpoint(tmp_path / "whole.ckpt")["state_dict"]["a"].shape == (1000,)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    for only in (None, "data.pkl", "data/0"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                kind = zipfile.ZIP_DEFLATED if only is None or name.endswith(only) else zipfile.ZIP_STORED
                archive.writestr(name, content, compress_type=kind)
        with pytest.raises(UserError, match=r"cannot read the checkpoint .*bomb.ckpt: .*is deflated or larger"):
            read_checkpoint(path)
    for place, word in ((whole.rindex(b"PK\1\2") + 24, 2**31), (whole.rindex(b"PK\1\2") + 20, 1)):
        path.write_bytes(whole[:place] + struct.pack("<I", word) + whole[place + 4 :])  # sizes in the directory
        with pytest.raises(UserError, match=r"bomb.ckpt: .*is deflated or larger"):
            read_checkpoint(path)
    two = whole[:-22] + whole[whole.index(b"PK\1\2") :]  # an honest directory for one reader, another for torch
    path.write_bytes(two)
    with pytest.raises(UserError, match=r"bomb.ckpt: .*its directory is not where it says"):
        read_checkpoint(path)


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    """As in the best of zip bombs: every entry of the directory is whole, and all are the same bytes."""
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", bytes(10_000))
        archive.infolist().extend([archive.infolist()[0]] * 50)
    with pytest.raises(UserError, match=r"bomb.ckpt: .*is deflated or larger"):
        read_checkpoint(path)


TENSOR = {"a": torch.zeros(2)}
ODD = [
    ({"state_dict": []}, "state_dict is a list, not a dictionary"),
    ({"state_dict": {"a": 1}}, "state_dict.a is 1, not a dense tensor"),
    ({"state_dict": {1: torch.zeros(1)}}, "a name in state_dict is 1, not a text"),
    ({"state_dict": {"a": torch.empty(2, device="meta")}}, "not a dense tensor"),
    ({"epoch": "x"}, "epoch is 'x', not a whole number from 0"),
    ({"epoch": 1.5}, "epoch is 1.5"), ({"epoch": -1}, "epoch is -1"), ({"epoch": True}, "epoch is True"),
    ({"epoch": 10**400}, "epoch is 1000"), ({"epoch": None}, "epoch is None"),
    ({"global_step": []}, "global_step is a list"),
    ({"class_names": 5}, "class_names is 5, not a list"), ({"class_names": "abc"}, "class_names is 'abc', not a list"),
    ({"class_names": ["a", 5]}, "class_names[1] is 5, not a text"),
    ({"epoch_scalars": {"step": 1, "scalars": {"a": "b"}}}, "epoch_scalars.scalars.a is 'b', not a number"),
    ({"epoch_scalars": {}}, "epoch_scalars has no 'step'"), ({"epoch_scalars": 1}, "epoch_scalars is 1"),
    ({"optimizer_states": {}}, "optimizer_states is a dict, not a list"),
    ({"optimizer_states": [{"state": {}}]}, "optimizer_states[0] has no 'param_groups'"),
    ({"lr_schedulers": [1]}, "lr_schedulers[0] is 1"), ({"callbacks": {"a": 1}}, "callbacks.a is 1, not a dictionary"),
    ({"plan": 1}, "plan is 1, not a dictionary"), ({"plan": {}}, "plan has no 'optimizer'"),
    ({"loops": 1}, "loops is 1"), ({"pytorch-lightning_version": 1}, "pytorch-lightning_version is 1, not a text"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), ODD)
def test_an_odd_type_in_a_checkpoint_is_one_clear_line(tmp_path, content, said):
    torch.save({"state_dict": TENSOR, **content}, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match=f"odd.ckpt cannot be used: .*{re.escape(said)}") as caught:
        read_checkpoint(tmp_path / "odd.ckpt")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("content", [3, [1], torch.zeros(2), {}, {"weights": {}}, None, "state_dict"])
def test_what_is_no_dictionary_of_weights_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match="odd.ckpt is not a checkpoint of a training: it has no 'state_dict'"):
        read_checkpoint(tmp_path / "odd.ckpt")


def test_a_tensor_of_more_bytes_than_the_file_is_refused(tmp_path):
    path = tmp_path / "odd.ckpt"
    torch.save({"state_dict": TENSOR}, path)
    with pytest.raises(UserError, match="its weights claim more bytes than the file has"):
        check_content({"state_dict": {"a": torch.zeros(10_000)}}, path)
    with pytest.raises(UserError, match="state_dict.a is a Tensor, not a dense tensor"):
        check_content({"state_dict": {"a": torch.eye(2).to_sparse()}}, path)


def test_what_lightning_cannot_take_over_is_one_clear_line(train, tmp_path):
    run = train(tmp_path / "run", "trainer.max_epochs=1", "scheduler=none")
    whole = run.checkpoint()
    for key, value in (
        ("optimizer_states", [{"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]}]),
        ("loops", {}),
        ("pytorch-lightning_version", "x"),
        ("callbacks", {name: {"x": 1} for name in whole["callbacks"]}),
    ):
        path = tmp_path / "odd" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**whole, key: value}, path)
        with pytest.raises(UserError, match=r"cannot resume from .*odd/checkpoints/last.ckpt: its state is damaged"):
            train(tmp_path / "next", "scheduler=none", f"checkpoint={tmp_path}/odd")
