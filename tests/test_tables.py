"""The reader of tables: every row keeps its line and its strings, and a bad row costs one row."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.contract import plugins
from stages.contract.errors import TableError
from stages.layouts import folders as folder_layout
from stages.layouts import table
from stages.params.data import Columns, DataFile, Dialect, Folder, Folders, Table
from stages.params.types import Encoding

of_x = plugins.modality("text")


def read(
    folder: Path,
    content: str | bytes,
    name: str = "train.csv",
    rows: tuple[int, int] | None = None,
    part: Any = None,
    dialect: Dialect | None = None,
    encoding: Encoding = "utf-8",
) -> pd.DataFrame:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return table.read(folder, data(name, rows, part, dialect), encoding, of_x)


def data(
    name: str = "train.csv",
    rows: tuple[int, int] | None = None,
    part: Any = None,
    dialect: Dialect | None = None,
) -> Table:
    return Table(
        name="table",
        files=(DataFile(path=name, part=part, rows=rows),),
        columns=Columns(x="text", y="label"),
        dialect=dialect,
    )


def lines(rows: pd.DataFrame) -> list[int]:
    return [int(origin.rpartition(":")[2]) for origin in rows["origin"]]


def codes(rows: pd.DataFrame) -> list[str | None]:
    return [None if pd.isna(code) else code for code in rows["code"]]


ODD = ["NA", "null", "01", "1.0", "nan", "None", "true", "1e5", "-0", " x "]


def test_labels_of_a_csv_stay_the_strings_that_they_are(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\n" + "".join(f"some text,{label}\n" for label in ODD))
    assert found["y"].tolist() == ODD
    assert found["code"].isna().all()


def test_a_boolean_of_a_jsonl_is_the_word_that_a_parquet_has(tmp_path: Path) -> None:
    assert read(
        tmp_path, '{"text": "a", "label": true}\n{"text": "b", "label": false}\n', "train.jsonl"
    )["y"].tolist() == ["true", "false"]


def test_labels_of_a_jsonl_stay_the_strings_and_numbers_that_they_are(tmp_path: Path) -> None:
    written = [json.dumps(label) for label in ODD] + ["1", "1.0", "1e5", "-0", "NaN"]
    found = read(
        tmp_path,
        "".join(f'{{"text": "a", "label": {label}}}\n' for label in written),
        "train.jsonl",
    )
    assert found["y"].tolist() == [*ODD, "1", "1.0", "1e5", "-0", "NaN"]
    assert found["code"].isna().all()


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbftext,label\nfine,good\n")["x"].tolist() == ["fine"]
    assert read(tmp_path, b'\xef\xbb\xbf{"text": "fine", "label": "good"}\n', "train.jsonl")[
        "x"
    ].tolist() == ["fine"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_by_its_mark(tmp_path: Path, encoding: str) -> None:
    written = '\ufefftext,label\r\n"好\n🙂",good\r\nlast,bad\r\n'.encode(encoding)
    found = read(tmp_path, written)
    assert found["x"].tolist() == ["好\n🙂", "last"]
    assert lines(found) == [2, 4]
    assert codes(
        read(
            tmp_path,
            "\ufefftext,label\na\udc00b,good\nlast,bad\n".encode(encoding, "surrogatepass"),
        )
    ) == ["not_utf8", None]
    with pytest.raises(TableError, match="train.csv: not whole UTF-16"):
        read(tmp_path, written[:-1])


CHINESE = (
    "这个手机很好用,推荐 这家酒店的房间不大 物流太慢了,不会再来 屏幕有点暗,但是我很满意 "
    "客服说会处理,等了一天 🙂 €"
).split()
OTHER = {  # by their own encodings, whose bytes may pass for GB18030
    "big5": (
        "這個手機很好用,推薦 這家飯店的房間不大 物流太慢了,不會再來 螢幕有點暗,但是我很滿意"
    ).split(),
    "euc_kr": (
        "이 전화기는 정말 좋아요 방이 작지만 깨끗했습니다 배송이 너무 늦어서 다시는 안 삽니다"
    ).split(),
    "shift_jis": (
        "この電話はとても良いです 部屋は狭いがきれいでした 配達が遅くて二度と買いません"
    ).split(),
    "cp1252": "café déjà crème brûlée naïve façade Ärger Öl Übung Maß garçon élève forêt".split(),
}


def table_of(texts: list[str], kind: str = "csv") -> str:
    if kind == "jsonl":
        return "".join(
            json.dumps({"text": text, "label": "好"}, ensure_ascii=False) + "\n" for text in texts
        )
    sign = "," if kind == "csv" else "\t"
    return f"text{sign}label\n" + "".join(
        f'"{text}"{sign}好\n' if kind == "csv" else f"{text}{sign}好\n" for text in texts
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("packed", [False, True])
def test_chinese_in_gb18030_is_read_where_params_say_so_and_named_where_they_do_not(
    tmp_path: Path, kind: str, packed: bool
) -> None:
    name, texts = f"train.{kind}{'.gz' if packed else ''}", CHINESE * 4
    plain = {encoding: table_of(texts, kind).encode(encoding) for encoding in ("utf-8", "gb18030")}
    written = {
        encoding: gzip.compress(content) if packed else content
        for encoding, content in plain.items()
    }
    found = read(tmp_path, written["gb18030"], name, encoding="gb18030")
    assert found.equals(read(tmp_path, written["utf-8"], name))
    assert found["x"].tolist() == texts and set(found["y"]) == {"好"}
    with pytest.raises(
        TableError,
        match=(
            rf"{name}: is written in GB18030 \(GBK\); "
            r"set data.encoding in params.yaml to gb18030, or save it in UTF-8"
        ),
    ):
        read(tmp_path, written["gb18030"], name)
    with pytest.raises(
        TableError, match=rf"{name}: is written in UTF-8; set data.encoding in params.yaml to utf-8"
    ):
        read(tmp_path, written["utf-8"], name, encoding="gb18030")


def test_gbk_and_every_end_of_a_line_are_read_as_gb18030(tmp_path: Path) -> None:
    texts = [text for text in CHINESE if text not in "🙂€"]
    for end in ("\n", "\r\n", "\r"):
        found = read(tmp_path, table_of(texts).replace("\n", end).encode("gbk"), encoding="gb18030")
        assert found["x"].tolist() == texts
        assert lines(found) == list(range(2, 2 + len(texts)))


@pytest.mark.parametrize(("encoding", "other"), [("utf-8", "gb18030"), ("gb18030", "utf-8")])
def test_a_line_in_another_encoding_costs_itself_alone(
    tmp_path: Path, encoding: Any, other: str
) -> None:
    parts = [
        table_of(CHINESE).encode(encoding),
        table_of(CHINESE[:4]).encode(other).partition(b"\n")[2],
        b"\xff\x81\x20,bad\n,\x81\nlast,good\n",
    ]
    found = read(tmp_path, b"".join(parts), encoding=encoding)
    assert codes(found) == [None] * len(CHINESE) + [f"not_{encoding.replace('-', '')}"] * 6 + [None]
    assert lines(found) == list(range(2, len(found) + 2))


@pytest.mark.parametrize("encoding", OTHER)
def test_other_encodings_are_not_taken_for_chinese(tmp_path: Path, encoding: str) -> None:
    found = read(
        tmp_path,
        ("text,label\n" + "".join(f'"{text}",good\n' for text in OTHER[encoding] * 3)).encode(
            encoding
        ),
    )
    assert "not_utf8" in codes(found)


def test_a_letter_that_both_encodings_have_is_that_of_the_encoding_that_params_say(
    tmp_path: Path,
) -> None:
    content = b"text,label\n\xc2\xb7,good\n"
    assert read(tmp_path, content)["x"].tolist() == ["·"]
    assert read(tmp_path, content, encoding="gb18030")["x"].tolist() == ["路"]


def test_embedded_newlines_keep_the_line_of_every_row_right(tmp_path: Path) -> None:
    found = read(
        tmp_path, 'text,label\r\n"a\nb\n\nc",good\r\nd,bad\r\n\r\n"e\r\nf",good\r\ng,bad,more\r\n'
    )
    assert lines(found) == [2, 6, 8, 10]
    assert found["x"].tolist()[:3] == ["a\nb\n\nc", "d", "e\r\nf"]
    assert codes(found) == [None, None, None, "field_count"]


def test_a_line_separator_inside_a_json_string_does_not_end_its_line(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        '{"text": "a\u2028b", "label": "good"}\n\n{"text": "c", "label": "bad"}\n',
        "train.jsonl",
    )
    assert found["x"].tolist() == ["a\u2028b", "c"]
    assert lines(found) == [1, 3]


def test_each_bad_row_of_a_csv_costs_itself_alone(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        b"text,label,n\ngood one,good,1\nfew,bad\nmany,bad,1,2\nnu\0l,bad,1\nb\xffd,bad,1\n"
        b"x,\xe9,1\nx,y,\xe9\nlast,bad,1\n",
    )
    assert codes(found) == [
        None,
        "field_count",
        "field_count",
        "nul_character",
        "not_utf8",
        "not_utf8",
        "not_utf8",
        None,
    ]
    assert lines(found) == list(range(2, 10))
    assert found.loc[found["code"].notna(), "reason"].str.len().gt(0).all()
    assert found.loc[1, "reason"] == "2 fields where the header has 3"


JSON_LINES = {
    '{"text": "a", "label"': "not_json",
    "[1, 2]": "not_json",
    "null": "not_json",
    '{"text": "a", "label": "good", "label": "bad"}': "repeated_name",
    "[" * 100_000: "not_json",
    '{"label": "bad"}': "missing_value",
    '{"text": null, "label": "bad"}': "missing_value",
    '{"text": ["a"], "label": "bad"}': "missing_value",
    '{"text": "a", "label": [["bad"]]}': "missing_value",
    '{"text": "a\\u0000b", "label": "bad"}': "nul_character",
    '{"text": "a\\ud800b", "label": "bad"}': "not_utf8",
    '{"text": "a", "label": "bad", "note": "\\ud800"}': "not_utf8",
    '{"text": "a", "note": "\\ud800"}': "missing_value",
    '{"text": "a", "label": "bad", "\\ud800": 1}': "not_utf8",
}


@pytest.mark.parametrize("line", JSON_LINES, ids=range(len(JSON_LINES)))
def test_each_bad_line_of_a_jsonl_costs_itself_alone(tmp_path: Path, line: str) -> None:
    good = '{"text": "a", "label": "good"}\n'
    found = read(tmp_path, good + line + "\n" + good, "train.jsonl")
    assert codes(found) == [None, JSON_LINES[line], None]
    assert lines(found) == [1, 2, 3]


def test_bytes_that_are_not_utf8_cost_one_line_of_a_jsonl(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        b'{"text": "a\xff", "label": "good"}\n{"text": "b", "label": "bad"}\n',
        "train.jsonl",
    )
    assert codes(found) == ["not_utf8", None]


def test_an_unclosed_quote_stops_the_run_and_names_where_it_begins(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"train\.csv:4: not strict CSV"):
        read(tmp_path, 'text,label\na,good\nb,bad\n"c,good\nd,bad\ne,good\n')


def test_a_missing_column_names_those_found(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"'text' occurs 0 times in the header \(found: content, label\)"
    ):
        read(tmp_path, "content,label\na,good\n")
    with pytest.raises(TableError, match="'label' occurs 2 times"):
        read(tmp_path, "text,label,label\na,good,bad\n")
    with pytest.raises(TableError, match=r"no row has 'text' \(found: content, label\)"):
        read(tmp_path, '{"content": "a", "label": "good"}\n', "train.jsonl")


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError, match=r"is empty \(0 bytes\)"):
        read(tmp_path, b"", name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("train.csv", "text,label\n"), ("train.csv", "text,label\n\n\n"), ("train.jsonl", "\n \n")],
)
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(TableError):
        read(tmp_path, content, name)


def test_rows_reads_a_slice_and_its_lines_are_those_of_the_file(tmp_path: Path) -> None:
    content = 'text,label\n"a\na",good\nb,bad\nc,good\nd,bad\n'
    found = read(tmp_path, content, rows=(2, 3), part="test")
    assert found["x"].tolist() == ["b", "c"]
    assert lines(found) == [4, 5]
    assert found["given_part"].tolist() == ["test", "test"]


def test_a_slice_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="has 2 of the data rows 2 to 4"):
        read(tmp_path, "text,label\na,good\nb,bad\nc,good\n", rows=(2, 4))


def test_a_table_outside_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("text,label\na,good\n")
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "train.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(TableError, match="is not a regular file inside"):
        table.read(folder, data(), "utf-8", of_x)
    (folder / "below").symlink_to(tmp_path)
    with pytest.raises(TableError, match="is not a regular file inside"):
        table.read(folder, data("below/secret.csv"), "utf-8", of_x)


def test_a_table_that_is_not_there_is_named_with_those_found(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("x")
    with pytest.raises(TableError, match=r"is not there \(found: other.csv\)"):
        table.read(tmp_path, data(), "utf-8", of_x)


def test_a_folder_a_pipe_and_an_unknown_kind_of_file_are_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "a.csv").mkdir()
    os.mkfifo(tmp_path / "b.csv")
    (tmp_path / "c.parquet").write_text("x")
    (tmp_path / "d.xlsx").write_text("x")
    for name, fact in (
        ("a.csv", "is not a regular file"),
        ("b.csv", "is not a regular file"),
        ("c.parquet", "not a Parquet file"),
        ("d.xlsx", "a table is a .csv, .tsv, .jsonl"),
    ):
        with pytest.raises(TableError, match=fact):
            table.read(tmp_path, data(name), "utf-8", of_x)


def test_the_other_columns_are_carried_as_json(tmp_path: Path) -> None:
    found = read(tmp_path, "id,text,stars,label\n07,a,好,good\n")
    assert json.loads(found.loc[0, "meta"]) == {"id": "07", "stars": "好"}
    found = read(
        tmp_path, '{"id": 7, "text": "a", "label": "good", "by": {"name": "好"}}\n', "train.jsonl"
    )
    assert json.loads(found.loc[0, "meta"]) == {"id": "7", "by": {"name": "好"}}


def test_files_are_read_one_after_the_other_and_named_in_the_origin(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,good\n")
    (tmp_path / "b.jsonl").write_text('{"text": "b", "label": "bad"}\n')
    both = Table(
        name="table",
        files=(DataFile("b.jsonl", None, None), DataFile("a.csv", "test", None)),
        columns=Columns("text", "label"),
        dialect=None,
    )
    found = table.read(tmp_path, both, "utf-8", of_x)
    assert found["origin"].tolist() == ["b.jsonl:1", "a.csv:2"]
    assert [None if pd.isna(p) else p for p in found["given_part"]] == [None, "test"]


# ---- other kinds ----


def test_a_tsv_has_no_quotes(tmp_path: Path) -> None:
    found = read(
        tmp_path, 'text\tlabel\nhe said "fine\tgood\n"so" it was\tbad\nnone\n', "train.tsv"
    )
    assert found["x"].tolist() == ['he said "fine', '"so" it was', ""]
    assert codes(found) == [None, None, "field_count"]


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.jsonl"])
def test_a_packed_table_is_the_table(tmp_path: Path, name: str) -> None:
    contents = {
        "train.csv": "text,label\nfine,good\n",
        "train.tsv": "text\tlabel\nfine\tgood\n",
        "train.jsonl": '{"text": "fine", "label": "good"}\n',
    }
    plain = read(tmp_path, contents[name], name)
    packed = read(tmp_path, gzip.compress(contents[name].encode()), f"{name}.gz")
    assert packed.drop(columns="origin").equals(plain.drop(columns="origin"))
    assert packed["origin"].tolist() == [plain["origin"][0].replace(name, f"{name}.gz")]


def test_a_packed_table_that_is_cut_off_or_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gzip.compress(("text,label\n" + "fine,good\n" * 100_000).encode())
    with pytest.raises(TableError, match="not a (whole )?gzip file"):
        read(tmp_path, content[:-20], "train.csv.gz")
    monkeypatch.setattr("stages.contract.lines.MAX_BYTES", 500_000)
    with pytest.raises(TableError, match="unpacks to more than 500,000 bytes"):
        read(tmp_path, content, "train.csv.gz")


def test_a_parquet_keeps_strings_numbers_and_nulls_apart(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None, "c", "d"],
            "label": pd.array([1, 2, None, 4], dtype="Int64"),
            "when": pd.Timestamp("2026-01-01"),
        }
    )
    frame.to_parquet(tmp_path / "train.parquet")
    found = table.read(tmp_path, data("train.parquet"), "utf-8", of_x)
    assert found["y"].tolist() == ["1", "", "", "4"]
    assert codes(found) == [None, "missing_value", "missing_value", None]
    assert found["origin"].tolist()[3] == "train.parquet:4"
    assert json.loads(found["meta"][0]) == {"when": "2026-01-01 00:00:00"}


def test_a_parquet_column_that_is_no_text_is_refused_by_its_name(tmp_path: Path) -> None:
    pd.DataFrame({"text": [["a", "b"]], "label": ["x"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(TableError, match="cannot be read as text"):
        table.read(tmp_path, data("train.parquet"), "utf-8", of_x)
    pd.DataFrame({"words": ["a"], "label": ["x"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(
        TableError, match=r"column 'text' occurs 0 times in the header \(found: words, label\)"
    ):
        table.read(tmp_path, data("train.parquet"), "utf-8", of_x)


# ---- dialects ----


def test_fields_between_spaces_are_read_under_the_names_that_params_give(tmp_path: Path) -> None:
    """ELPV's labels of solar cells are so: no header, and columns aligned by spaces."""
    lines = [
        "images/cell0001.png  1.0                 mono",
        "images/cell0002.png  0.3333333333333333  poly   ",
        "",
        "  images/cell0003.png 0.0 mono",
        "a b",
        "a b c d",
    ]
    dialect, path = Dialect("spaces", ("text", "label", "cell")), tmp_path / "labels.csv"
    found = read(tmp_path, "\n".join(lines), "labels.csv", dialect=dialect)
    assert found["x"].tolist()[:3] == [f"images/cell000{i}.png" for i in (1, 2, 3)]
    assert found["y"].tolist()[:3] == ["1.0", "0.3333333333333333", "0.0"]
    assert [json.loads(meta) for meta in found["meta"][:3]] == [
        {"cell": "mono"},
        {"cell": "poly"},
        {"cell": "mono"},
    ]
    assert found["origin"].tolist() == [f"labels.csv:{i}" for i in (1, 2, 4, 5, 6)]
    assert codes(found) == [None, None, None, "field_count", "field_count"]
    assert table.header(path, "utf-8", dialect) == ["text", "label", "cell"]


@pytest.mark.parametrize(
    ("delimiter", "sign"), [("comma", ","), ("semicolon", ";"), ("tab", "\t"), ("spaces", "   ")]
)
def test_every_delimiter_reads_the_header_that_stands_in_the_table_whatever_its_suffix(
    tmp_path: Path, delimiter: Any, sign: str
) -> None:
    dialect = Dialect(delimiter, None)
    found = read(
        tmp_path,
        f"label{sign}text{sign}other\ngood{sign}fine{sign}1\n",
        "table.dat",
        dialect=dialect,
    )
    assert found[["x", "y", "meta", "origin"]].to_numpy().tolist() == [
        ["fine", "good", '{"other": "1"}', "table.dat:2"]
    ]
    assert table.header(tmp_path / "table.dat", "utf-8", dialect) == ["label", "text", "other"]


def test_a_semicolon_parts_no_quoted_field_and_a_comma_no_field_at_all(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'text;label\n"well; fine, so far";good\n1,5;bad\n',
        dialect=Dialect("semicolon", None),
    )
    assert found["x"].tolist() == ["well; fine, so far", "1,5"]
    assert found["y"].tolist() == ["good", "bad"]


def test_a_header_that_lacks_a_column_is_refused_with_the_names_it_has(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match=r"column 'label' occurs 0 times in the header \(found: text, grade\)"
    ):
        read(tmp_path, "fine good\n", dialect=Dialect("spaces", ("text", "grade")))


# ---- a folder a label ----


def folders(*named: Folder) -> Folders:
    return Folders("folders", named or (Folder(".", None),), (".txt",))


def write(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_a_folder_a_label_keeps_paths_and_sets_bad_files_aside(tmp_path: Path) -> None:
    contents = {
        "good/a.txt": b"fine",
        "good/deep/b.txt": b"\xef\xbb\xbfbetter",
        "bad/c.txt": b"caf\xe9",
        "bad/d.md": b"x",
        "README.txt": b"no label",
    }
    write(tmp_path, contents)
    (tmp_path / "bad/f.txt").symlink_to("/etc/hostname")
    found = folder_layout.read(tmp_path, folders(), "utf-8", of_x)
    assert found["origin"].tolist() == [
        "bad/c.txt",
        "bad/d.md",
        "bad/f.txt",
        "good/a.txt",
        "good/deep/b.txt",
    ]
    assert codes(found) == ["not_utf8", "unknown_suffix", "not_regular", None, None]
    assert found["x"].tolist()[3:] == ["fine", "better"]
    assert found["y"].tolist()[3:] == ["good", "good"]


def test_texts_of_files_are_read_in_their_encoding(tmp_path: Path) -> None:
    write(tmp_path, {f"good/{i}.txt": text.encode("gb18030") for i, text in enumerate(CHINESE * 3)})
    write(
        tmp_path,
        {
            "good/wide.txt": "好\r\n的".encode("utf-16"),
            "good/cut.txt": "好".encode("utf-16")[:-1],
            "good/other.txt": "好用".encode(),
        },
    )
    with pytest.raises(
        TableError,
        match=r"good: is written in GB18030 \(GBK\); set data.encoding in params.yaml to gb18030",
    ):
        folder_layout.read(tmp_path, folders(), "utf-8", of_x)
    found = folder_layout.read(tmp_path, folders(), "gb18030", of_x).set_index("origin")
    assert (
        found.loc[[f"good/{i}.txt" for i in range(3 * len(CHINESE))], "x"].tolist() == CHINESE * 3
    )
    assert found.loc["good/wide.txt", "x"] == "好\n的"
    assert found.loc[["good/cut.txt", "good/other.txt"], "code"].tolist() == ["not_gb18030"] * 2


def test_folders_of_parts_keep_their_part_and_an_absent_one_is_refused(tmp_path: Path) -> None:
    for name in ("train/good/a.txt", "test/bad/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("text")
    found = folder_layout.read(
        tmp_path, folders(Folder("train", "train"), Folder("test", "test")), "utf-8", of_x
    )
    assert found[["y", "given_part"]].to_numpy().tolist() == [["good", "train"], ["bad", "test"]]
    with pytest.raises(TableError, match="is no folder of"):
        folder_layout.read(tmp_path, folders(Folder("dev", None)), "utf-8", of_x)
    with pytest.raises(TableError, match="has no folder of a label"):
        folder_layout.read(tmp_path, folders(Folder("train/good", None)), "utf-8", of_x)


JUNK = (
    "bad/.hidden.txt",
    "bad/.ipynb_checkpoints/c.txt",
    "bad/Thumbs.db",
    "bad/deep/desktop.ini",
    "__MACOSX/bad/c.txt",
    ".git/e.txt",
    ".DS_Store/f.txt",
)


def test_what_systems_leave_is_junk_and_never_opened(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "good/a.txt": b"fine",
            "bad/c.txt": b"poor",
            "bad/Thumbs.txt": b"up",
            **dict.fromkeys(JUNK, b"\xff"),
        },
    )
    for name in JUNK:
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to("/dev/full")  # opening it does not go unnoticed
    found = folder_layout.read(tmp_path, folders(), "utf-8", of_x).set_index("origin")
    assert set(found.index[found["code"] == "junk"]) == set(JUNK)
    assert found["code"].isna().sum() == 3
    assert found.loc["bad/Thumbs.txt", "x"] == "up"


@pytest.mark.parametrize("junk", ["empty/.DS_Store", "empty/deep/Thumbs.db", None])
def test_a_label_without_a_sample_is_named(tmp_path: Path, junk: str | None) -> None:
    write(tmp_path, {"good/a.txt": b"fine", "bad/b.txt": b"poor", **({junk: b""} if junk else {})})
    (tmp_path / "empty").mkdir(exist_ok=True)
    with pytest.raises(
        TableError,
        match=r"folder\(s\) without a file: empty; put samples into them, or remove them",
    ):
        folder_layout.read(tmp_path, folders(), "utf-8", of_x)


def test_folders_of_systems_are_no_labels(tmp_path: Path) -> None:
    write(tmp_path, {".git/e.txt": b"x", "__MACOSX/good/a.txt": b"x"})
    with pytest.raises(TableError, match="has no folder of a label"):
        folder_layout.read(tmp_path, folders(), "utf-8", of_x)
