"""`crowdselect push`, by huggingface_hub itself against a local server that answers uploads as the Hub does."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from commands import tree
from crowdselect import Options, export, open_pool, select
from crowdselect._optional import install_command
from crowdselect.errors import MissingExtraError
from crowdselect.selection.folder import license_in, licensed
from crowdselect.selection.push import push, upload_of
from crowdselect.selection.trainers import TRAINERS
from hub_server import OWNER, TOKEN, git_id, serving

NAME = f"{OWNER}/chosen"


@pytest.fixture(scope="module")
def made(sim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "chosen"
    with open_pool(sim) as pool:
        export(select(pool, Options(budget=10, clusters=0)), pool, folder)
    return folder


@pytest.fixture
def chosen(made, tmp_path):
    return shutil.copytree(made, tmp_path / "chosen")


@pytest.fixture
def hub(monkeypatch):
    """The server, which this process takes for the Hub."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its own protocol, which this server lacks
    with serving() as (address, found):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield found


def pushed(run, folder, *options, name=NAME):
    return run("push", folder, name, "--license", "mit", *options)


@pytest.mark.extra
def test_what_goes_up_is_a_data_set_that_loads(run, hub, chosen, tmp_path):
    (chosen / "report.html").write_text("<p>texts that were not chosen</p>")
    (chosen / "notes.txt").write_text("mine")
    (chosen / ".env").write_text("SECRET=1")
    ran = pushed(run, chosen)
    assert ran.code == 0, ran
    assert f"/datasets/{NAME} (private)" in ran.out
    repo = hub.repos[NAME]
    assert repo.private
    assert repo.commits == ["10 rows chosen with crowdselect 0.1.0"]
    assert set(repo.files) == {".gitattributes", "README.md", "selection.parquet", "train.jsonl"}
    for name in ("selection.parquet", "train.jsonl"):
        assert repo.files[name] == (chosen / name).read_bytes()
    card = repo.files["README.md"].decode()
    assert license_in(card) == "mit"
    assert "names: `mit`" in card
    assert f'load_dataset("{NAME}")' in card
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    for name, content in repo.files.items():
        (tmp_path / "copy" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    loaded = datasets.load_dataset(str(tmp_path / "copy"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 10
    assert loaded[0]["messages"][-1]["role"] == "assistant"


@pytest.mark.extra
def test_in_a_process_of_its_own(chosen, tmp_path):
    pytest.importorskip("huggingface_hub")
    with serving() as (address, found):
        environment = {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        ran = subprocess.run(
            [sys.executable, "-m", "crowdselect", "push", chosen, NAME, "--license", "mit", "--public"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"{address}/datasets/{NAME} (public)" in ran.stdout
    assert not found.repos[NAME].private


@pytest.mark.extra
def test_a_dry_run_sends_nothing(run, hub, chosen):
    (chosen / "notes.txt").write_text("mine")
    before = tree(chosen)
    ran = pushed(run, chosen, "--dry-run")
    assert ran.code == 0, ran
    assert hub.asked == []
    assert f"would go to the private data set {NAME}" in ran.out
    assert re.search(rf"train\.jsonl +{(chosen / 'train.jsonl').stat().st_size:,}\n", ran.out)
    assert "stays here: manifest.json (it holds paths of this machine)" in ran.out
    assert "stays here: notes.txt (crowdselect did not write it)" in ran.out
    assert f"crowdselect push {chosen} {NAME} --license mit\n" in ran.out
    assert "the public data set" in pushed(run, chosen, "--dry-run", "--public").out
    assert tree(chosen) == before


def test_a_licence_is_needed(run, chosen, monkeypatch):
    run("push", chosen, NAME).refuses("README.md names no licence", "with --license", "--license cc-by-4.0")
    card = chosen / "README.md"
    card.write_text(licensed(card.read_text(), "apache-2.0"))
    assert license_in(upload_of(chosen, NAME).files["README.md"].decode()) == "apache-2.0"
    assert license_in(upload_of(chosen, NAME, license="mit").files["README.md"].decode()) == "mit"
    card.write_text("# My own card\n")
    assert (
        upload_of(chosen, NAME, license="mit")
        .files["README.md"]
        .startswith(b'---\nlicense: "mit"\n---\n\n# My')
    )


@pytest.mark.parametrize("trainer", [None, *TRAINERS])
def test_no_path_of_this_machine_goes_up(sim, tmp_path, trainer):
    with open_pool(sim) as pool:
        export(select(pool, Options(budget=5, clusters=0)), pool, tmp_path / "chosen", trainer=trainer)
    upload = upload_of(tmp_path / "chosen", NAME, license="mit")
    assert set(upload.left) == {"manifest.json"}
    for name, content in upload.files.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        for place in (tmp_path, sim.parent):
            assert str(place).encode() not in data, name
    assert upload.sizes()["README.md"] == len(upload.files["README.md"])


def test_a_link_does_not_lead_out(chosen, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (chosen / "train.jsonl").unlink()
    (chosen / "train.jsonl").symlink_to(tmp_path / "secret")
    upload = upload_of(chosen, NAME, license="mit")
    assert "train.jsonl" not in upload.files
    assert upload.left["train.jsonl"] == "it is a link"


@pytest.mark.extra
def test_after_a_broken_upload_the_same_command_goes_on(run, hub, chosen):
    hub.failing["POST", "/commit/"] = (400, "a passing failure")
    pushed(run, chosen).refuses(f"{NAME}: the Hub did not take it: ", "a passing failure")
    assert len(hub.uploads()) == 1
    assert set(hub.repos[NAME].files) == {".gitattributes"}
    hub.failing.clear()
    assert pushed(run, chosen).code == 0
    assert len(hub.uploads()) == 1  # the large file had arrived
    assert "train.jsonl" in hub.repos[NAME].files
    asked = len(hub.asked)
    ran = pushed(run, chosen)
    assert (ran.code, ran.out.startswith("up to date: ")) == (0, True)
    assert {method for method, _ in hub.asked[asked:]} == {"GET"}
    assert len(hub.repos[NAME].commits) == 1


@pytest.mark.extra
def test_what_is_there_is_not_replaced_unasked(run, hub, chosen):
    assert pushed(run, chosen).code == 0
    repo = hub.repos[NAME]
    repo.files["train.jsonl"] = b"{}\n"
    pushed(run, chosen).refuses(f"{NAME}: its train.jsonl has other content", "--overwrite")
    repo.files["selection.parquet"] = b"PAR1"
    pushed(run, chosen).refuses("its selection.parquet has other content")
    repo.files |= {f"mine-{n}.txt": b"mine" for n in range(5)}
    pushed(run, chosen).refuses("holds other files (mine-0.txt, mine-1.txt, mine-2.txt and 2 more)")
    assert len(repo.commits) == 1
    assert pushed(run, chosen, "--overwrite").code == 0
    assert repo.files["train.jsonl"] == (chosen / "train.jsonl").read_bytes()
    assert repo.files["mine-0.txt"] == b"mine"
    assert len(repo.commits) == 2


@pytest.mark.extra
def test_a_data_set_that_is_public_stays_a_decision(run, hub, chosen):
    assert pushed(run, chosen, "--public").code == 0
    pushed(run, chosen).refuses(f"{NAME}: there is such a data set, and it is public; add --public")
    hub.repos[NAME].private = True
    ran = pushed(run, chosen, "--public")
    assert f"note: {NAME} was there and stays private" in ran.err
    assert "(private)" in ran.out


@pytest.mark.extra
def test_each_failure_is_one_line_without_the_token(run, hub, chosen, monkeypatch):
    pushed(run, chosen, name="other/chosen").refuses("other/chosen: ", "the token may not write there")
    hub.failing["POST", "/create"] = (400, f"bad token {TOKEN} in a bad request")
    ran = pushed(run, chosen)
    ran.refuses("bad token [the token] in a bad request")
    hub.failing.clear()
    ran = run("push", chosen, NAME, "--license", "my-own")
    ran.refuses("Invalid metadata in README.md", '"license" must be one of')
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    ran = pushed(run, chosen)
    ran.refuses(f"{NAME}: the Hub did not take it: it does not accept the token", "hf auth login")
    assert "somebody" not in ran.err


@pytest.mark.extra
def test_without_network_or_token(run, hub, chosen, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    pushed(run, chosen).refuses(
        f"{NAME}: the Hub did not take it: it cannot be reached; check the connection"
    )
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(chosen / "none"))
    pushed(run, chosen).refuses("there is no token for the Hub", "hf auth login", "HF_TOKEN")
    planned = pushed(run, chosen, "--dry-run")
    assert (planned.code, hub.asked) == (0, [])
    assert "train.jsonl" in planned.out
    assert "to send it: there is no token for the Hub; log in with `hf auth login`" in planned.err


@pytest.mark.parametrize("name", ["chosen", "a/b/c", "../x/y", "me/", "https://example.com/a/b", "me/a@v1"])
def test_a_wrong_name_is_told_before_anything_else(run, chosen, name):
    pushed(run, chosen, name=name).refuses("wanted OWNER/NAME, such as my-name/chosen")


def test_the_page_of_a_data_set_is_a_name_too(chosen):
    page = f"https://huggingface.co/datasets/{NAME}"
    assert upload_of(chosen, page, license="mit").repo == NAME


def test_only_a_selection_goes_up(run, tmp_path, chosen):
    run("push", tmp_path, NAME, "--license", "mit").refuses("not a crowdselect output folder")
    (chosen / "README.md").unlink()
    pushed(run, chosen).refuses("has no README.md, which would be the card")


def test_the_hub_is_an_extra(chosen, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_command("hub"))):
        push(upload_of(chosen, NAME, license="mit"))


def test_git_names_contents_as_the_server_does():
    assert git_id(b"what is up, doc?") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
