"""Every file that is refused, and the words that say why and where."""

import builtins
import decimal
import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from writers import (
    columns_of,
    csv_text,
    idx_bytes,
    image_bytes,
    pictures,
    table,
    write,
    write_folder,
    write_gzip,
    write_npy,
    write_npz,
    write_parquet,
    write_zip,
)

import lnz


def with_value(value, row=3, column=2):
    x = table().astype(np.float64)
    x[row, column] = value
    return x


def csv_with(row, text, names="abc"):
    lines = csv_text(table(), names).splitlines()
    lines[row + 1] = text
    return "\n".join(lines) + "\n"


def npy_bytes(x, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(x), **options)
    return stream.getvalue()


def npy_header(shape, descr="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def files(num=6, **changed):
    """Pictures by name, some of them changed."""
    return {f"{i}.png": image_bytes(picture) for i, picture in enumerate(pictures(num))} | changed


def png_header(width, height):
    """A PNG that claims a size and has nothing behind it."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return head + struct.pack(">I", 100) + b"IDAT"


def cut(content, part=0.6):
    return content[: int(len(content) * part)]


def grey16():
    return image_bytes(Image.fromarray(np.full((4, 4), 1000, np.uint16)))


def clear():
    return image_bytes(Image.fromarray(np.zeros((5, 4, 4), np.uint8), "RGBA"))


def encrypted(folder):
    path = write_zip(folder / "x.zip", files())
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    return write(path, bytes(content))


def parquet_of(folder, **columns):
    return write_parquet(folder / "x.parquet", **columns)


def bytes_of(make):
    """The content of a file that a writer makes."""

    def content(folder):
        return make(folder).read_bytes()

    return content


def planes(height, width):
    """Boards of one-hot codes, such as those of Connect Four, `[20, 3, height, width]`."""
    return np.moveaxis(np.eye(3, dtype=np.uint8)[np.random.RandomState(0).randint(0, 3, (20, height, width))], -1, 1)


def lattice():
    return np.random.RandomState(0).randint(0, 2, (20, 4, 4, 4)).astype(np.uint8)


ONE_HOT = r"as colour images have, but no values except 0 and 1, .*: flatten .*, or, if they are colours, .* times 255"
ANY = r"x\.\S+`"
REFUSED = {
    # Values.
    "nan": (
        lambda d: write_npy(d / "x.npy", with_value(np.nan)),
        r"column 2 has missing values \(nan in row 3\): fill in",
    ),
    "inf": (lambda d: write_npy(d / "x.npy", with_value(-np.inf)), r"column 2 has infinite values \(-inf in row 3\)"),
    "nan in a part": (
        lambda d: write_npz(d / "x.npz", train=table(), test=with_value(np.nan)),
        r"x.npz` \(part `test`\) needs .* column 2 has missing values \(nan in row 3\)",
    ),
    "csv empty cell": (
        lambda d: write(d / "x.csv", csv_with(5, "1,,3")),
        r'column "b" has missing values \(the first in line 7\): fill in or remove such rows, or .* `missing="mask"`',
    ),
    "csv NaN": (lambda d: write(d / "x.csv", csv_with(5, "1,2,NaN")), r'column "c" has missing values .* in line 7'),
    "csv NA": (lambda d: write(d / "x.csv", csv_with(0, "NA,2,3")), r'column "a" has missing values .* in line 2'),
    "csv inf": (lambda d: write(d / "x.csv", csv_with(5, "1,inf,3")), r'column "b" has infinite values .inf in line 7'),
    "csv first row with an empty cell": (
        lambda d: write(d / "x.csv", "1,,3\n" + csv_text(table())),
        r"column 1 has missing values \(the first in line 1\)",
    ),
    "csv empty line": (
        lambda d: write(d / "x.csv", "a\n1\n2\n\n3\n4\n"),
        r'column "a" has missing values \(the first in line 4\)',
    ),
    "parquet null": (
        lambda d: parquet_of(d, a=[1.0, None, 3.0], b=[1, 2, 3]),
        r'column "a" has missing values \(the first in row 1\)',
    ),
    "parquet null integer": (
        lambda d: parquet_of(d, a=[1.0, 2.0, 3.0], b=[1, 2, None]),
        r'column "b" has missing values \(the first in row 2\)',
    ),
    "parquet nan": (lambda d: parquet_of(d, a=[1.0, 2.0, np.nan]), r'column "a" has missing values .nan in row 2'),
    "overflow": (
        lambda d: write_npy(d / "x.npy", with_value(1e300)),
        r"the value 1e\+300 at row 3, column 2, too large for float32: rescale the column, or turn on `jax_enable_x64`",
    ),
    "constant": (
        lambda d: write(d / "x.csv", csv_text(table() * [1, 0, 1], "abc")),
        r'the same value -?0.0 in all 28 training rows of column "b", .* remove the column, add noise',
    ),
    "constant in train": (
        lambda d: write_npz(d / "x.npz", train=table() * [1, 0, 1], valid=table(), test=table()),
        r"\(part `train`\) has the same value 0.0 in all 40 training rows of column 1",
    ),
    "too small to tell apart": (lambda d: write_npy(d / "x.npy", table().astype("f8") * 1e-60), r"the same value"),
    # Text and other kinds.
    "csv text": (
        lambda d: write(d / "x.csv", csv_with(5, "1,blue,3")),
        r"finite number in every cell, but column \"b\" has text \('blue' in line 7\): encode it as numbers or remove",
    ),
    "csv quoted text": (lambda d: write(d / "x.csv", csv_with(5, '1,"a ""b""",3')), r"text \('a \"b\"' in line 7"),
    "csv labels without a header": (
        lambda d: write(d / "x.csv", "1,2,iris\n3,4,rose\n5,6,rose\n"),
        r"column \"iris\" has text \('rose' in line 2\)",
    ),
    "csv text in gz": (lambda d: write_gzip(d / "x.csv.gz", csv_with(5, "1,blue,3")), r"text \('blue' in line 7"),
    "csv semicolons": (
        lambda d: write(d / "x.csv", csv_text(table(), "abc", ";")),
        r"separate its cells by ',' instead of ';'",
    ),
    "csv with tabs": (lambda d: write(d / "x.csv", csv_text(table(), "abc", "\t")), r"instead of '\\t'"),
    "csv ragged, short": (
        lambda d: write(d / "x.csv", csv_with(5, "1,2")),
        r"has 2 cells in line 7, but 3 in its first row: make all rows equally long",
    ),
    "csv ragged, long": (lambda d: write(d / "x.csv", csv_with(7, "1,2,3,4")), r"has 4 cells in line 9, but 3"),
    "csv row names of R": (
        lambda d: write(d / "x.csv", '"a","b"\n"1",1.5,2\n"2",2.5,NA\n'),
        r"has 3 cells in line 2, but 2 in its first row: its row names lack .* R's `write.table`; .* `row.names=FALSE`",
    ),
    "csv row names of R above one column": (
        lambda d: write(d / "x.csv", '"a"\n"1",15\n"2",25\n"3",17\n'),
        r"has 2 cells in line 2, but 1 in its first row: its row names lack",
    ),
    "tsv row names of R": (
        lambda d: write(d / "x.tsv", "mpg\tcyl\nMazda\t21\t6\nDatsun\t22.8\t4\n"),
        r"its row names lack a name of their own",
    ),
    "csv decimal commas beneath one name": (
        lambda d: write(d / "x.csv", "a\n20,05\n19,81\n"),
        r"has 2 cells in line 2, but 1 in its first row: if it has decimal commas, write decimals with '.' instead",
    ),
    "csv decimal commas beneath two names": (
        lambda d: write(d / "x.csv", "a,b\n20,05,-0,3\n19,81,1,5\n"),
        r"has 4 cells in line 2, but 2 in its first row: if it has decimal commas, write decimals with '.' instead",
    ),
    "csv decimal commas and whole numbers": (
        lambda d: write(d / "x.csv", "20,5\n19\n18,1\n"),
        r"has 1 cells in line 2, but 2 in its first row: if it has decimal commas",
    ),
    "csv with a title": (
        lambda d: write(d / "x.csv", "Report\na,b\n1,2\n3,4\n"),
        r"has 2 cells in line 2, but 1 in its first row: make all rows equally long",
    ),
    "csv with commas at the ends": (
        lambda d: write(d / "x.csv", "a\n1,\n2,\n"),
        r"has 2 cells in line 2, but 1 in its first row: make all rows equally long",
    ),
    "parquet without names, with an index": (
        lambda d: parquet_of(d, **{"0": [0, 1, 2], "1": [0.5, 1.5, 0.7]}),
        r"no column names, and its first column counts the rows, 0, 1, 2, ...: .* name the columns\.",
    ),
    "csv with a comment": (
        lambda d: write(d / "x.csv", "# of today\n" + csv_text(table(), "abc")),
        r"has 3 cells in line 2, but 1 in its first row: remove that comment",
    ),
    "csv duplicate names": (lambda d: write(d / "x.csv", csv_text(table(), "aba")), r"two columns called 'a'"),
    "csv empty": (lambda d: write(d / "x.csv", ""), r"x.csv` is empty: a table with at least one row is needed"),
    "csv empty lines": (lambda d: write(d / "x.csv", "\n\r\n\n"), r"x.csv` is empty"),
    "csv header alone": (lambda d: write(d / "x.csv", "a,b\n"), r"x.csv` has no rows of data"),
    "csv header alone, no end": (lambda d: write(d / "x.csv", "a,b"), r"x.csv` has no rows of data"),
    "csv not text": (lambda d: write(d / "x.csv", bytes(range(128, 256)) * 4), r"is not text in UTF-8"),
    "csv utf-16": (lambda d: write(d / "x.csv", csv_text(table(), "abc").encode("utf-16")), r"is not text in UTF-8"),
    "csv nul": (lambda d: write(d / "x.csv", "a,b\n1,2\n\0\0,3\n"), r"text \('\?\?' in line 3|line contains NUL"),
    "csv one line": (lambda d: write(d / "x.csv", "1," * 2**21 + "1"), r"a first line of more than"),
    "parquet text": (
        lambda d: parquet_of(d, a=[1.0, 2.0], b=["blue", "red"]),
        r"column \"b\" has text \('blue' of type string in row 0\): encode it as numbers",
    ),
    "parquet lists": (lambda d: parquet_of(d, a=[[1.0], [2.0]]), r"text \(.* of type list"),
    "parquet times": (
        lambda d: parquet_of(d, a=np.array(["2020-01-01"], "M8[ns]")),
        r"dates or times \(.* of type timestamp.*: count days",
    ),
    "parquet no rows": (lambda d: parquet_of(d, a=np.zeros(0)), r"is empty: it has 0 rows and 1 columns"),
    "parquet no columns": (lambda d: parquet_of(d), r"is empty: it has 0 rows and 0 columns"),
    "complex": (
        lambda d: write_npy(d / "x.npy", table() + 1j),
        r"real numbers; got dtype complex64: write two columns",
    ),
    "text": (lambda d: write_npy(d / "x.npy", [["a", "b"]]), r"real numbers; got dtype <U1"),
    "bytes": (lambda d: write_npy(d / "x.npy", [[b"a", b"b"]]), r"real numbers; got dtype \|S1"),
    "times": (
        lambda d: write_npy(d / "x.npy", np.zeros((2, 2), "M8[s]")),
        r"real numbers; got dtype datetime64\[s\]: write seconds since",
    ),
    "fields": (
        lambda d: write_npy(d / "x.npy", np.zeros(2, "f4,i4")),
        r"got dtype .*: write its fields as columns, `numpy.lib.recfunctions.structured_to_unstructured\(x\)",
    ),
    "fields of text": (
        lambda d: write_npy(d / "x.npy", np.zeros(2, "f4,U3,i8")),
        r"structured_to_unstructured\(x\[\['f0', 'f2'\]\]\)`",
    ),
    "fields in npz": (lambda d: write_npz(d / "x.npz", x=np.zeros(2, "f4,f4")), r"structured_to_unstructured\(x\)"),
    "fields without numbers": (lambda d: write_npy(d / "x.npy", np.zeros(2, "U3,S2")), r"write numbers for them first"),
    "objects": (
        lambda d: write_npy(d / "x.npy", np.array([[1, "a"]], object)),
        r"holds pickled Python objects, which are never loaded here",
    ),
    "objects in npz": (
        lambda d: write_npz(d / "x.npz", x=np.array([[1, "a"]], object)),
        r"x.npz` \(array 'x'\) holds pickled Python objects",
    ),
    "pickle": (lambda d: write(d / "x.npy", pickle.dumps(table())), r"cannot be read as a NumPy array"),
    "mixed kinds": (
        lambda d: write_npz(d / "x.npz", train=pictures(), test=pictures().astype(np.float32)),
        r"has parts of different kinds \(uint8, float32\): save all as uint8 or all as floats",
    ),
    # Shapes.
    "one dimension": (lambda d: write_npy(d / "x.npy", np.arange(5.0)), r"got shape \(5,\): try `reshape\(-1, 1\)`"),
    "a single number": (lambda d: write_npy(d / "x.npy", 5.0), r"got shape \(\): try"),
    "one dimension in npz": (lambda d: write_npz(d / "x.npz", x=np.arange(5.0)), r"got shape \(5,\): try `reshape"),
    "no rows": (lambda d: write_npy(d / "x.npy", np.zeros((0, 3))), r"is empty: it has shape \(0, 3\)"),
    "no columns": (lambda d: write_npy(d / "x.npy", np.zeros((3, 0))), r"is empty: it has shape \(3, 0\)"),
    "no rows in npz": (lambda d: write_npz(d / "x.npz", train=table(), test=table(0)), r"`test`\) is empty"),
    "colours": (
        lambda d: write_npy(d / "x.npy", np.full((5, 8, 8, 3), 200.0)),
        r"colour images, shape \(5, 8, 8, 3\), but its values are neither uint8 nor floats from 0 to 1",
    ),
    "colours first": (lambda d: write_npy(d / "x.npy", np.full((5, 3, 8, 8), 2)), r"colour images"),
    "one-hot planes": (lambda d: write_npy(d / "x.npy", planes(6, 7)), ONE_HOT),
    "one-hot planes last": (lambda d: write_npy(d / "x.npy", np.moveaxis(planes(6, 7), 1, -1)), ONE_HOT),
    "one-hot floats": (lambda d: write_npy(d / "x.npy", planes(3, 3).astype(np.float32)), ONE_HOT),
    "one-hot planes in npz": (
        lambda d: write_npz(d / "x.npz", train=planes(6, 7), test=np.zeros((1, 3, 6, 7), np.uint8)),
        ONE_HOT,
    ),
    "one-hot planes in idx": (lambda d: write(d / "x.idx", idx_bytes(planes(6, 7))), ONE_HOT),
    "lattice of bits": (lambda d: write_npy(d / "x.npy", lattice()), ONE_HOT),
    "lattice of truth": (lambda d: write_npy(d / "x.npy", lattice() == 1), ONE_HOT),
    "lattice of spins": (lambda d: write_npy(d / "x.npy", 2.0 * lattice() - 1), r"colour images"),
    "colours with holes": (
        lambda d: write_npz(d / "x.npz", x=np.zeros((5, 8, 8, 4), np.uint8)),
        r"images with transparent pixels: put them on a background first",
    ),
    # Tables as other programs write them.
    "csv of all kinds": (
        lambda d: write(d / "x.csv", "name,a,day,ok,b\nAda,1,2020-01-02,True,3\nBen,,2020-01-03,False,\n"),
        r'column "name" has text .\'Ada\' in line 2.: encode .*; column "day" has dates or times .\'2020-01-02\' '
        r'in line 2.: count .*; column "ok" has true and false .\'True\' in line 2.: write 1 and 0; '
        r'columns "a", "b" have missing values .the first in line 3.: fill in',
    ),
    "parquet of all kinds": (
        lambda d: parquet_of(d, a=["x"], b=[1.0], c=np.array(["2020-01-01"], "M8[s]"), d=[[1]]),
        r'columns "a", "d" have text .*: encode .*; column "c" has dates or times .*: count days',
    ),
    "parquet of missing values": (
        lambda d: parquet_of(d, a=[1.0, None, 3.0], b=[1, 2, 3], c=[None, 2.0, 3.0]),
        r'columns "a", "c" have missing values \(the first in row 1\)',
    ),
    "npy of missing values": (
        lambda d: write_npy(d / "x.npy", np.where(np.arange(21).reshape(3, 7) > 14, np.nan, 1.0)),
        r"columns 1, 2, 3, 4, 5 and 1 more have missing values \(nan in row 2\)",
    ),
    "csv decimal commas": (
        lambda d: write(d / "x.csv", "t;p;w\n20,1;1013,2;3,0\n20,1;1013,2;3,1\n"),
        r"separate its cells by ',' instead of ';', and write decimals with '\.' .* `pd.read_csv\(path, sep=';', dec",
    ),
    "csv decimal commas without header": (
        lambda d: write(d / "x.csv", "20,1;1013,2;3,0\n20,1;1013,2;3,1\n"),
        r"separate its cells by ',' instead of ';', and write decimals with '\.'",
    ),
    "csv quoted decimal commas": (
        lambda d: write(d / "x.csv", 'a,b\n"1,5",2\n"1,6",3\n'),
        r"column \"a\" has decimal commas \('1,5' in line 2\): write 1.5, not 1,5",
    ),
    "csv commas of decimals or thousands": (
        lambda d: write(d / "x.csv", 'a,b\n"5,251",2\n"1,600",3\n'),
        r"commas, of decimals or between thousands \('5,251' in line 2\): write 5.251 or 5251, not 5,251",
    ),
    "csv decimal commas, as other cells tell": (
        lambda d: write(d / "x.csv", 'a,b\n"5,251",2\n"1,600","-0,25"\n'),
        r'columns "a", "b" have decimal commas \(\'5,251\' in line 2\): write 1.5',
    ),
    "csv thousands, as other cells tell": (
        lambda d: write(d / "x.csv", 'a,b\n"5,251",2\n"1,600,000",3\n'),
        r'column "a" has commas between thousands',
    ),
    "csv of one column with an empty line before the last": (
        lambda d: write(d / "x.csv", "a\n1\n\n3\n\n\n"),
        r'column "a" has missing values \(the first in line 3\)',
    ),
    "csv of one column that ends in a missing value": (
        lambda d: write(d / "x.csv", 'a\n1\n2\n""\n\n'),
        r'column "a" has missing values \(the first in line 4\)',
    ),
    "csv non-breaking space": (
        lambda d: write(d / "x.csv", csv_with(5, "1,\xa01.5,3")),
        r"invisible signs, such as non-breaking spaces \('\\xa01.5' in line 7\): remove these signs",
    ),
    "csv zero-width space": (
        lambda d: write(d / "x.csv", csv_with(5, "1,1\u200b.5,3\ufeff")),
        r'columns "b", "c" have numbers with invisible signs',
    ),
    "csv aligned by blanks": (
        lambda d: write(d / "x.csv", "  a    b\n1.5   2\n2.5  13\n"),
        r'instead of \' \' \(pandas reads it by `pd.read_csv\(path, sep=r"\\s\+"\)`',
    ),
    "csv spaces between thousands": (
        lambda d: write(d / "x.csv", csv_with(5, "1,1 234.5,3")),
        r"spaces between thousands \('1 234.5' in line 7\): write 1234",
    ),
    "csv percent": (
        lambda d: write(d / "x.csv", csv_with(5, "5.5%,$3,3")),
        r'columns "a", "b" have signs or units beside numbers \(\'5.5%\' in line 7\): write the number alone',
    ),
    "csv digits of other scripts": (
        lambda d: write(d / "x.csv", csv_with(5, "１２,2,3")),
        r"text \('１２' in line 7\)",
    ),
    "csv of old Macs": (
        lambda d: write(d / "x.csv", csv_text(table(), "abc").replace("\n", "\r")),
        r"ends its lines with a carriage return alone, as on old Macs: save it again",
    ),
    "csv with another separator by its first line": (
        lambda d: write(d / "x.csv", "sep=;\n" + csv_text(table(), "abc", ";")),
        r"separate its cells by ',' instead of ';' \(pandas reads it by `pd.read_csv\(path, sep=';', skiprows=1\)`",
    ),
    "csv with another separator by its first line and decimal commas": (
        lambda d: write(d / "x.csv", "sep=;\na;b\n1,5;2,5\n3,5;4,5\n"),
        r"`pd.read_csv\(path, sep=';', skiprows=1, decimal=\",\"\)`",
    ),
    "parquet empty column": (
        lambda d: parquet_of(d, a=[1.0, 2.0, 3.0], b=[None, None, None]),
        r"column .b. has no value in any row \('None' of type null in row 0\): remove it\.",
    ),
    "csv header of years": (
        lambda d: write(d / "x.csv", csv_text(table(), ["2019", "2020", "2021"])),
        r'has 2019, 2020, 2021 in its first row, which may be column names or data: say which by `header="yes"`',
    ),
    "csv header of decades above counts": (
        lambda d: write(d / "x.csv", "1990,2000\n1500,1700\n1800,2100\n"),
        r"has 1990, 2000 in its first row, which may be column names or data",
    ),
    "csv header of wavelengths": (
        lambda d: write(d / "x.csv", "400,410,420,430\n" + "3,1,4,1\n1,5,9,2\n6,5,3,5\n"),
        r"has 400, 410, 420, ... in its first row, which may be column names or data",
    ),
    "csv header of doses": (
        lambda d: write(d / "x.csv", csv_text(table(), ["0.1", "1", "10"])),
        r"has 0.1, 1, 10 in its first row, .* by `header=\"yes\"` or `header=\"no\"` \(`--set data.header=yes` or `no`",
    ),
    "csv header of wavelengths with decimals": (
        lambda d: write(d / "x.csv", csv_text(table(), ["950.5", "951.5", "952.5"])),
        r"has 950.5, 951.5, 952.5 in its first row, which may be column names or data",
    ),
    "csv header of years behind an index": (
        lambda d: write(d / "x.csv", ",2019,2021\n" + csv_text(table())),
        r"has , 2019, 2021 in its first row, which may be column names or data",
    ),
    "csv second column without a name": (
        lambda d: write(d / "x.csv", ",Unnamed: 1,b\n0,7,2\n1,7,3\n"),
        r"a column 'Unnamed: 1', .* without a name, which is not pandas' index: it has '7' once more in line 3",
    ),
    "parquet first column without a name": (
        lambda d: parquet_of(d, **{"Unnamed: 0": [0.5, 1.5], "b": [1.0, 2.0]}),
        r"a first column without a name, which is not pandas' index: it has '0.5' in row 0. Give it a name",
    ),
    "csv decimal commas of three digits": (
        lambda d: write(d / "x.csv", 'a,b\n"0,126",2\n"-0,132",3\n'),
        r"column \"a\" has decimal commas \('0,126' in line 2\): write 1.5, not 1,5",
    ),
    "csv decimal commas, as other cells of the column tell": (
        lambda d: write(d / "x.csv", 'a,b,c\n"5,251","1,234,567","6,251"\n"-0,600","2,345","7,251"\n'),
        r'column "a" has decimal commas .*; column "b" has commas between thousands .*; column "c" has commas, of '
        r"decimals or between thousands \('6,251' in line 2\): write 5.251 or 5251",
    ),
    "csv whole numbers that floats round": (
        lambda d: write(d / "x.csv", csv_with(5, f"{2**53 + 1},2,{-(2**60) - 1}")),
        r'columns "a", "c" have whole numbers beyond 2\*\*53 that floats round \(\'9007199254740993\' in line 7\)',
    ),
    "npy whole numbers that floats round": (
        lambda d: write_npy(d / "x.npy", np.array([[1, 2], [2**62 + 1, 2**62]])),
        r"column 0 has whole numbers beyond 2\*\*53 that floats round \(4611686018427387905 in row 1\)",
    ),
    "npz whole numbers that floats round": (
        lambda d: write_npz(d / "x.npz", x=np.array([[1, 2], [3, 2**64 - 1]], np.uint64)),
        r"column 1 has whole numbers beyond 2\*\*53 that floats round \(18446744073709551615 in row 1\)",
    ),
    "parquet whole numbers that floats round": (
        lambda d: parquet_of(d, a=[1, 2**53 + 1], b=[1.5, 2.5]),
        r'column "a" has whole numbers beyond 2\*\*53 that floats round \(9007199254740993 in row 1\)',
    ),
    "parquet decimals that floats round": (
        lambda d: parquet_of(d, a=[decimal.Decimal(2**53 + 2), decimal.Decimal(2**53 + 1)], b=[1.5, 2.5]),
        r'column "a" has whole numbers beyond 2\*\*53 that floats round \(9007199254740993 in row 1\)',
    ),
    "parquet true and false beside numbers": (
        lambda d: parquet_of(d, a=[1.5, 2.5], b=[True, False], c=np.array([1, 2], np.uint8)),
        r'column "b" has true and false \(of type bool\): write 1 and 0',
    ),
    "parquet of no values": (
        lambda d: parquet_of(d, a=[1.0, 2.0], b=[None, None]),
        r'column "b" has no value in any row',
    ),
    "csv thousands": (
        lambda d: write(d / "x.csv", 'a,b\n"1,234.5",2\n"1,600",3\n'),
        r"column \"a\" has commas between thousands \('1,234.5' in line 2\): write 1234",
    ),
    "csv blanks": (
        lambda d: write(d / "x.csv", "a b\n1.5 2\n2.5 3\n"),
        r"separate its cells by ',' instead of ' '",
    ),
    "tsv with commas": (lambda d: write(d / "x.tsv", "a,b\n1.5,2\n2.5,3\n"), r"by '\\t' instead of ','"),
    "csv first column without a name": (
        lambda d: write(d / "x.csv", ",b\n0.5,2\n1.5,3\n"),
        r"a first column without a name, which is not pandas' index: it has '0.5' in line 2. Give it a name",
    ),
    "csv no names where some are in quotes": (
        lambda d: write(d / "x.csv", 'a,b\n1,2\n\n"3","x\ny"\n4,5\n'),
        r"text \('x\?y' in line 4\)",
    ),
    "parts of other shapes": (
        lambda d: write_npz(d / "x.npz", train=table(), test=table(num_columns=4)),
        r"\(part `test`\) has examples of shape \(4,\), but those of `train` have \(3,\)",
    ),
    "too few rows": (
        lambda d: write_npy(d / "x.npy", table(2)),
        r"has 2 rows, too few to train on beside 1 for valid and 1 for test: use more rows",
    ),
    "one row": (
        lambda d: write_npz(d / "x.npz", train=table(1), test=table()),
        r"has 1 row, too few to train on",
    ),
    # Keys of .npz.
    "keys": (
        lambda d: write_npz(d / "x.npz", a=table(), b=table()),
        r"has the arrays 'a', 'b', but must have `train` with `valid` and `test`, or `x_train`",
    ),
    "mixed keys": (
        lambda d: write_npz(d / "x.npz", train=table(), x_test=table()),
        r"arrays 'train', 'x_test'",
    ),
    "no train": (lambda d: write_npz(d / "x.npz", valid=table(), test=table()), r"has the arrays 'test', 'valid'"),
    "labels alone": (lambda d: write_npz(d / "x.npz", y=np.arange(3)), r"has the arrays 'y', but must have"),
    "labels of what": (
        lambda d: write_npz(d / "x.npz", train=table(), test=table(), y=np.arange(80)),
        r"has the arrays 'test', 'train', 'y', but",
    ),
    "no arrays": (lambda d: write_npz(d / "x.npz"), r"has the arrays none, but must have"),
    "labels missing": (
        lambda d: write_npz(d / "x.npz", x_train=table(), x_test=table(), y_train=np.arange(40)),
        r"has labels, but none for `test`",
    ),
    "labels short": (
        lambda d: write_npz(d / "x.npz", x=table(), y=np.arange(39)),
        r"one label for each of the 40 rows of `train`; got shape \(39,\)",
    ),
    "not an array in npz": (
        lambda d: write_zip(d / "x.npz", {"a.txt": b"hello"}),
        r"member 'a.txt', which is not",
    ),
    # Damage.
    "npy cut off": (
        lambda d: write(d / "x.npy", cut(npy_bytes(table()))),
        r"states shape \(40, 3\) of float32, 480 bytes, but has \d+: it may be cut off",
    ),
    "npy too long": (lambda d: write(d / "x.npy", npy_bytes(table()) + b"abc"), r"480 bytes, but has 483"),
    "npy empty": (lambda d: write(d / "x.npy", b""), r"cannot be read as a NumPy array"),
    "npy header cut off": (lambda d: write(d / "x.npy", npy_bytes(table())[:40]), r"cannot be read as a NumPy array"),
    "npy absurd": (lambda d: write(d / "x.npy", npy_header((2**20, 2**20)) + b"abc"), r"states shape .* but has 3"),
    "npy more than there is": (
        lambda d: write(d / "x.npy", npy_header((2**62,) * 20) + b"abc"),
        r"claims the impossible shape \(4611",
    ),
    "npy negative": (lambda d: write(d / "x.npy", npy_header((-4, -4)) + b"a" * 64), r"claims the impossible shape"),
    "npy header of code": (
        lambda d: write(d / "x.npy", npy_header((1, 1)).replace(b"'<f4'", b"abs() ")),
        r"cannot be read as a NumPy array",
    ),
    "npy version": (
        lambda d: write(d / "x.npy", b"\x93NUMPY\x03\x00" + npy_bytes(table())[8:]),
        r"version \(3, 0\)",
    ),
    "npz absurd": (lambda d: write_zip(d / "x.npz", {"x.npy": npy_header((2**40, 2**10)) + b"abc"}), r"but has 3"),
    "npz cut off": (
        lambda d: write(d / "x.npz", cut(bytes_of(lambda d: write_npz(d / "y.npz", x=table()))(d))),
        r"cannot be read as NumPy arrays \(.npz\)",
    ),
    "npz is text": (lambda d: write(d / "x.npz", "hello"), r"cannot be read as NumPy arrays"),
    "npz wrong sum": (
        lambda d: write(
            d / "x.npz",
            bytes_of(lambda d: write_zip(d / "y.npz", {"x.npy": npy_bytes(table())}, 0))(d).replace(
                table().tobytes()[-8:], b"\0\0\0\0\0\0\0\1"
            ),
        ),
        r"cannot be read as NumPy arrays .*CRC",
    ),
    "parquet cut off": (
        lambda d: write(d / "x.parquet", cut(bytes_of(lambda d: parquet_of(d, **columns_of(table(), "abc")))(d))),
        r"cannot be read as a Parquet table",
    ),
    "parquet is text": (lambda d: write(d / "x.parquet", "a,b\n1,2\n"), r"cannot be read as a Parquet table"),
    "parquet empty": (lambda d: write(d / "x.parquet", ""), r"cannot be read as a Parquet table"),
    "idx cut off": (
        lambda d: write(d / "x.idx", idx_bytes(pictures())[:-3]),
        r"states shape \(20, 5, 4\) of uint8, 400 bytes, but has only 397",
    ),
    "idx too long": (lambda d: write(d / "x.idx", idx_bytes(pictures()) + b"a"), r"400 bytes, but has more"),
    "idx absurd": (lambda d: write(d / "x.idx", b"\0\0\x0e\4" + b"\xff" * 16), r"states shape .* but has only 0"),
    "idx of many axes": (lambda d: write(d / "x.idx", b"\0\0\x0e\xff" * 300), r"does not start as an IDX file does"),
    "idx head": (lambda d: write(d / "x.idx", b"\0\0"), r"cannot be read as an IDX file"),
    "idx is text": (lambda d: write(d / "x.idx", "hello, world"), r"does not start as an IDX file does"),
    "idx labels": (
        lambda d: write_gzip(d / "train-labels-idx1-ubyte.gz", idx_bytes(np.arange(9, dtype=np.uint8))),
        r"a list of 9 numbers, perhaps labels: load the file of images instead",
    ),
    "gzip cut off": (
        lambda d: write(d / "x.idx.gz", cut(gzip.compress(idx_bytes(pictures())))),
        r"cannot be read as an IDX file",
    ),
    "gzip cut off in csv": (
        lambda d: write(d / "x.csv.gz", cut(gzip.compress(csv_text(table()).encode()))),
        r"cannot be read as a text table",
    ),
    "gzip is not": (
        lambda d: write(d / "x.csv.gz", csv_text(table())),
        r"cannot be read as .*Not a gzipped",
    ),
    "gzip wrong sum": (
        lambda d: write(d / "x.csv.gz", gzip.compress(csv_text(table()).encode())[:-8] + b"\0" * 8),
        r"cannot be read as a text table \(CRC",
    ),
    "zip is not": (lambda d: write(d / "x.zip", "hello"), r"cannot be read as a zip of images"),
    "zip encrypted": (encrypted, r"is encrypted, see member '0.png'"),
    "zip method": (
        lambda d: write_zip(d / "x.zip", files(), zipfile.ZIP_LZMA),
        r"packs '0.png' by another method than deflate",
    ),
    "zip twice": (lambda d: write_twice(d / "x.zip"), r"two members called '0.png'"),
    # Zip slip.
    "zip up": (
        lambda d: write_zip(d / "x.zip", {"../../a.png": b""}),
        r"member '../../a.png' outside",
    ),
    "zip inside up": (lambda d: write_zip(d / "x.zip", {"a/../../b.png": b""}), r"outside of the archive"),
    "zip absolute": (lambda d: write_zip(d / "x.zip", {"/etc/a.png": b""}), r"a member '/etc/a.png' outside"),
    "zip windows": (lambda d: write_zip(d / "x.zip", {"C:\\a.png": b""}), r"outside of the archive"),
    "npz up": (lambda d: write_zip(d / "x.npz", {"../a.npy": npy_bytes(table())}), r"outside of the archive"),
    # Images.
    "sizes": (
        lambda d: write_folder(d / "x", files(**{"3.png": image_bytes(pictures(1, 7, 6)[0])})),
        r"'0.png' has 4 x 5 pixels and '3.png' has 6 x 7: crop or resize",
    ),
    "other file": (
        lambda d: write_folder(d / "x", files(**{"readme.txt": b"hello"})),
        r"x/readme.txt` is not a PNG, JPEG, BMP or PGM image: remove or convert it",
    ),
    "image cut off": (
        lambda d: write_folder(d / "x", files(**{"3.png": cut(image_bytes(pictures(1)[0]))})),
        r"x/3.png` cannot be read as",
    ),
    "image cut off in a zip": (
        lambda d: write_zip(d / "x.zip", files(**{"3.png": cut(image_bytes(pictures(1)[0]))})),
        r"x.zip/3.png` cannot be read as",
    ),
    "image huge": (
        lambda d: write_folder(d / "x", files(**{"3.png": png_header(5000, 4000)})),
        r"has '3.png' of 5000 x 4000 pixels: resize it to 4096 x 4096 or less",
    ),
    "image very huge": (
        lambda d: write_folder(d / "x", files(**{"3.png": png_header(10_000, 10_000)})),
        r"has '3.png' of 10000 x 10000 pixels",
    ),
    "image absurd": (
        lambda d: write_folder(d / "x", files(**{"3.png": png_header(10**9, 10**9)})),
        r"has '3.png' of far more than 4096 x 4096 pixels",
    ),
    "image of a program": (
        lambda d: write_folder(d / "x", files(**{"3.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"})),
        r"x/3.eps` is not a PNG, JPEG",
    ),
    "image of 16 bits": (
        lambda d: write_folder(d / "x", files(**{"3.png": grey16()})),
        r"more than 8 bits a pixel",
    ),
    "colours of 16 bits": (
        lambda d: write_folder(d / "x", files(**{"3.ppm": b"P6\n# deep\n4 5\n65535\n" + bytes(120)})),
        r"has '3.ppm' with more than 8 bits a pixel",
    ),
    "colours of 16 bits with comments": (
        lambda d: write_folder(d / "x", files(**{"3.ppm": b"P6 # a\n4#b\n # c\r5\n# d\n65#e\n535\n" + bytes(120)})),
        r"has '3.ppm' with more than 8 bits a pixel",
    ),
    "image with holes": (lambda d: write_folder(d / "x", files(**{"3.png": clear()})), r"with transparent pixels"),
    "folder empty": (lambda d: write_folder(d / "x", {".hidden": b""}), r"x` has no images"),
    "zip without files": (lambda d: write_zip(d / "x.zip", {"a/": b""}), r"x.zip` has no images"),
    "folders in folders": (
        lambda d: write_folder(d / "x", files() | {"a/b/c.png": image_bytes(pictures(1)[0])}),
        r"folders in folders, see 'a/b/c.png'",
    ),
    "folders of parts": (
        lambda d: write_folder(d / "x", {f"{part}/0.png": image_bytes(pictures(1)[0]) for part in ("train", "Test")}),
        r"folders 'Test', 'train', which are parts of the data, not classes: load one of them, `\S+x/Test` or",
    ),
    "images beside folders": (
        lambda d: write_folder(d / "x", files() | {"a/c.png": image_bytes(pictures(1)[0])}),
        r"images in class folders and beside them, see '0.png'",
    ),
    # Names.
    "ending": (
        lambda d: write(d / "x.xlsx", "hello"),
        r"an unknown ending: expected one of \.npy, .*folder of images",
    ),
    "no ending": (lambda d: write(d / "x", "hello"), r"an unknown ending"),
}


def write_twice(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", b"a")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("0.png", b"b")
    return path


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_sentence(tmp_path, make, words):
    path = make(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        lnz.data.load(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"`{path}")
    assert len(message.replace(str(tmp_path), "")) < 450


CONSTANT = ["constant", "constant in train", "too small to tell apart", "too few rows", "one row"]


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in CONSTANT])
def test_refused_for_scoring_too(tmp_path, name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        lnz.data.read_rows(make(tmp_path))


def zeros(num_bytes):
    """A gzip of zeros, made in pieces of a mebibyte."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=9) as file:
        for _ in range(num_bytes >> 20):
            file.write(b"\0" * 2**20)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["idx.gz", "csv.gz", "npz", "zip", "parquet", "parquet of categories"])
def test_bombs_are_stopped_while_they_are_read(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("lnz.data._budget.FREE_BYTES", 2**20)
    size = 8 * 2**20
    path = tmp_path / f"x.{kind}"
    if kind == "idx.gz":
        head = struct.pack(">HBB", 0, 8, 2) + struct.pack(">II", size, 1)
        write(path, gzip.compress(head) + zeros(size))
    elif kind == "csv.gz":
        write(path, gzip.compress(b"a,b\n" + b"0,1\n" * (size // 4)))
    elif kind == "npz":
        write_zip(path, {"x.npy": npy_header((size // 4, 1)) + bytes(size)})
    elif kind == "zip":
        write_zip(path, files(**{"9.png": bytes(size)}))
    else:
        path = tmp_path / "x.parquet"
        options = {"compression": "brotli", "use_dictionary": kind != "parquet"}
        pq.write_table(pa.table({"a": np.arange(size // 8) // (size // 16), "b": np.zeros(size // 8)}), path, **options)
    assert path.stat().st_size < 40_000
    with pytest.raises(ValueError, match=r"expands to more than 200 times its size") as error:
        lnz.data.load(path)
    assert str(error.value).startswith(f"`{path}")


@pytest.mark.parametrize("kind", ["idx.gz", "csv.gz"])
def test_too_much_in_all(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("lnz.data._budget.MAX_DECODED", 2**15)
    content = np.random.RandomState(0).bytes(2**15)
    path = tmp_path / f"x.{kind}"
    if kind == "idx.gz":
        write_gzip(path, struct.pack(">HBB", 0, 8, 2) + struct.pack(">II", 2**15, 1) + content)
    else:
        write_gzip(path, csv_text(np.frombuffer(content, np.uint8).reshape(-1, 4)))
    with pytest.raises(ValueError, match=r"expands to more than 0 GiB: unpack it"):
        lnz.data.load(path)


def test_too_many_pixels_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr("lnz.data._images.MAX_DECODED", 100)
    with pytest.raises(ValueError, match=r"6 images of 4 x 5 pixels, more than 0 GiB: make an .npy"):
        lnz.data.load(write_folder(tmp_path / "x", files()))


def test_a_header_that_lies_about_a_member(tmp_path):
    """The archive states less than the member has: nothing beyond it is read, and the sum does not fit."""
    path = write_zip(tmp_path / "x.npz", {"x.npy": npy_bytes(table())})
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    size = struct.unpack("<I", content[at + 24 : at + 28])[0]
    for lie in (size - 4, size + 4, 2**31):
        content[at + 24 : at + 28] = struct.pack("<I", lie)
        with pytest.raises(ValueError, match=r"x.npz`"):
            lnz.data.load(write(path, bytes(content)))


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="is not a regular file: give a file or a folder of images"):
        lnz.data.load(tmp_path / "x.csv")
    write_folder(tmp_path / "x", files())
    os.mkfifo(tmp_path / "x" / "9.png")
    with pytest.raises(ValueError, match=r"has '9\.png', which is not a regular file"):
        lnz.data.load(tmp_path / "x")


class _Bomb:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_nothing_in_a_file_is_run(tmp_path, capsys):
    bomb = np.array([[_Bomb()]], object)
    for path in (
        write_npy(tmp_path / "x.npy", bomb),
        write_npz(tmp_path / "x.npz", x=bomb),
        write(tmp_path / "y.npy", pickle.dumps(_Bomb())),
        write_zip(tmp_path / "y.npz", {"x.npy": pickle.dumps(_Bomb())}),
    ):
        with pytest.raises(ValueError, match=path.name):
            lnz.data.load(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "package"), [("x.csv", "pyarrow"), ("x.parquet", "pyarrow"), ("x.zip", "PIL"), ("mnist", "pooch")]
)
def test_missing_extras_are_named(tmp_path, monkeypatch, name, package):
    path = {
        "x.csv": lambda: write(tmp_path / name, csv_text(table())),
        "x.parquet": lambda: parquet_of(tmp_path, a=[1.0, 2.0, 3.0]),
        "x.zip": lambda: write_zip(tmp_path / name, files()),
        "mnist": lambda: name,
    }[name]()
    monkeypatch.delenv("LNZ_DATA", raising=False)
    real = builtins.__import__

    def without(module, *rest):
        if module.split(".")[0] == package:
            raise ImportError(f"No module named {module!r}")
        return real(module, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'needs `pip install "lnz\[app\]"`'):
        lnz.data.load(path)


def test_the_core_reads_arrays_without_extras(tmp_path):
    write_npy(tmp_path / "x.npy", table())
    write_npz(tmp_path / "x.npz", x=table())
    write(tmp_path / "x.idx", idx_bytes(pictures()))
    code = """
    import sys
    import lnz.data
    for name in ("x.npy", "x.npz", "x.idx"):
        lnz.data.load(name)
    lnz.data.names()
    lnz.data.describe("mnist")
    print({"pyarrow", "PIL", "pooch", "sklearn", "pandas"} & set(sys.modules))
    """
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr
