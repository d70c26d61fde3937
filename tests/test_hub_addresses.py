"""What people write for a data set of the Hub: the error has the line to type."""

import pytest

from crowdselect.pool.files import find_files
from crowdselect.pool.howread import HowRead
from crowdselect.pool.hub import hub_address

TULU = "hf://datasets/allenai/tulu-3"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("allenai/tulu-3", TULU),
        ("datasets/allenai/tulu-3", TULU),
        ("hf://allenai/tulu-3", TULU),
        ("https://huggingface.co/datasets/allenai/tulu-3", TULU),
        ("https://huggingface.co/datasets/allenai/tulu-3/", TULU),
        ("http://hf.co/datasets/allenai/tulu-3?row=7#top", TULU),
        ("huggingface.co/datasets/allenai/tulu-3/tree/main", TULU),
        ("https://huggingface.co/datasets/allenai/tulu-3/viewer/default/train", TULU),
        ("https://huggingface.co/datasets/allenai/tulu-3/discussions/1", TULU),
        ("https://huggingface.co/datasets/allenai/tulu-3/tree/v1", f"{TULU}@v1"),
        ("https://huggingface.co/datasets/allenai/tulu-3/tree/main/data", f"{TULU}/data"),
        ("https://huggingface.co/datasets/allenai/tulu-3/blob/main/a%20b/x.parquet", f"{TULU}/a b/x.parquet"),
        (
            "https://huggingface.co/datasets/allenai/tulu-3/resolve/v1/x.parquet?download=true",
            f"{TULU}@v1/x.parquet",
        ),
        ("https://huggingface.co/allenai/tulu-3", None),  # a model
        ("https://example.com/datasets/allenai/tulu-3", None),
        ("huggingface.co/datasets", None),
        ("allenai/tulu-3.1", f"{TULU}.1"),
        ("data/pool.parquet", None),
        ("data/pool.jsonl.gz", None),
        ("pool", None),
        ("a/b/c", None),
        ("/a/b", None),
        ("../pools/mine", None),
        ("s3://bucket/pool", None),
        ("*/pool.parquet", None),
    ],
)
def test_what_is_meant(written, address):
    assert hub_address(written) == address


@pytest.mark.parametrize("options", [(), ("--split", "train")])
def test_the_error_has_the_line_to_type(run, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    ran = run("inspect", "allenai/tulu-3", *options)
    ran.refuses(
        "allenai/tulu-3: no such file or folder", f"if you mean the data set of the Hub, write {TULU}"
    )
    run("inspect", "a/b/c").refuses("a/b/c: no such file or folder; wanted a file, a folder or a glob")


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "allenai" / "tulu-3").mkdir(parents=True)
    (tmp_path / "allenai" / "tulu-3" / "x.jsonl").write_text('{"id": "a"}\n')
    assert [file.name for file in find_files("allenai/tulu-3", HowRead()).files] == ["x.jsonl"]
