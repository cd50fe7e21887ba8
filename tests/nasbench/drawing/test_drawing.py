"""Drawings of architectures: what must hold of any picture, whatever it looks like; and the command that writes one."""

import json
import sys
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings, strategies as st

from nasbench.cli.options import read_architecture
from nasbench.drawing.layered import layered_layout, node_ranks
from nasbench.drawing.layout import PAGE_WIDTH, Rect, Text, rounded, text_width
from nasbench.drawing.svg import OPERATIONS, arrange, lay_out, operation_colours, svg
from nasbench.models import save_model
from nasbench.models.build import SpaceBuild
from nasbench.report.survivor_drawings import draw_survivors
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.diagram import Edge, Graph, Node, chain

INK = "#1c2126"


def cell(edges, title="cell", kind="value"):
    names = sorted({name for edge in edges for name in edge[:2]})
    return Graph(title, tuple(Node(name, name, kind=kind) for name in names), tuple(Edge(*edge) for edge in edges))


NB201 = cell(
    [
        ("0", "1", "conv 3x3"),
        ("0", "2", "skip"),
        ("1", "2", "conv 3x3"),
        ("0", "3", "avg pool 3x3"),
        ("1", "3", "skip"),
        ("2", "3", "conv 1x1"),
    ],
    title="NAS-Bench-201",
)
DARTS = cell(
    [
        *(("a", "0", "sep conv 3x3"), ("b", "0", "sep conv 3x3"), ("a", "1", "sep conv 3x3"), ("b", "1", "skip")),
        *(("0", "2", "dil conv 3x3"), ("b", "2", "skip"), ("a", "3", "skip"), ("0", "3", "dil conv 3x3")),
        *((node, "z") for node in "0123"),
    ],
    title="DARTS",
)
NB101 = cell(
    [("a", "b"), ("a", "c"), ("b", "d"), ("c", "e"), ("a", "e"), ("d", "f"), ("e", "f"), ("f", "g"), ("a", "g")],
    title="NAS-Bench-101",
    kind="layer",
)
PARALLEL = cell([("a", "b", "skip"), ("a", "b", "conv"), ("a", "b"), ("b", "c"), ("b", "c"), ("a", "c", "pool")])
DEEP = cell([*((a, b, "sep conv 3x3") for a, b in pairwise("abcdefghijkl")), ("a", "l", "skip"), ("c", "i", "")])
NETWORK = chain("network", [Node(f"n{i}", f"inverted residual {i}", f"k5 e6, {i}x56x56") for i in range(30)])
GRAPHS = [NB201, DARTS, NB101, PARALLEL, DEEP, NETWORK, chain("one", [Node("x", "alone")]), Graph("empty", (), ())]


@st.composite
def graphs(draw):
    """Up to 12 nodes and 20 edges, some of them parallel, some with labels; in no particular order of nodes."""
    size = draw(st.integers(1, 12))
    texts = st.sampled_from(["", "", "skip", "conv 3x3", "a rather long operation", "x" * 80])
    kinds = st.sampled_from(["layer", "value", "input", "output"])
    nodes = [Node(str(i), draw(texts) or str(i), draw(texts), draw(kinds)) for i in range(size)]
    pairs = [pair for pair in combinations(range(size), 2)]
    ends = draw(st.lists(st.sampled_from(pairs), max_size=20)) if pairs else []
    edges = tuple(Edge(str(a), str(b), draw(texts)) for a, b in ends)
    return Graph(draw(texts), tuple(draw(st.permutations(nodes))), edges)


def chips(layout):
    return [arrow.chip for arrow in layout.arrows if arrow.chip is not None]


def points(path):
    """Points along a path, close to each other."""
    here = path[0][0]
    for step in path[1:]:
        corners = (here, *step) if len(step) == 3 else (here, here, step[0], step[0])
        for part in range(25):
            t = part / 24
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            yield tuple(sum(w * corner[axis] for w, corner in zip(weights, corners, strict=True)) for axis in (0, 1))
        here = step[-1]


def within(point, rect, room=0.5):
    return rect.x + room < point[0] < rect.right - room and rect.y + room < point[1] < rect.bottom - room


def check(graph):
    layout = lay_out(graph)
    assert [box.node for box in layout.boxes] == list(graph.nodes)
    assert [arrow.edge for arrow in layout.arrows] == list(graph.edges)
    assert [arrow.chip is not None for arrow in layout.arrows] == [bool(edge.label) for edge in graph.edges]
    rects = [box.rect for box in layout.boxes] + chips(layout)
    assert not [pair for pair in combinations(rects, 2) if pair[0].overlaps(pair[1])]
    page = Rect(0, 0, layout.width, layout.height)
    for rect in rects:
        assert rect.x >= -0.01 and rect.y >= -0.01
        assert rect.right <= page.right + 0.01 and rect.bottom <= page.bottom + 0.01
    for box in layout.boxes:
        assert max(box.label.width, box.detail.width) < box.rect.width
    place = {box.node.name: box.rect for box in layout.boxes}
    for arrow in layout.arrows:
        assert arrow.chip is None or arrow.label.width < arrow.chip.width
        source, target = place[arrow.edge.source], place[arrow.edge.target]
        foreign = [rect for rect in rects if rect not in (source, target, arrow.chip)]
        for point in points(arrow.path):
            assert not [rect for rect in foreign if within(point, rect)]
            assert -0.01 <= point[0] <= page.right + 0.01 and -0.01 <= point[1] <= page.bottom + 0.01
        for end, rect in ((arrow.path[0][0], source), (arrow.path[-1][-1], target)):
            border = min(
                abs(end[0] - rect.x), abs(end[0] - rect.right), abs(end[1] - rect.y), abs(end[1] - rect.bottom)
            )
            assert border < 17.5 and not within(end, Rect(rect.x + 17, rect.y + 17, rect.width - 34, rect.height - 34))
        if arrow.chip is not None:
            assert any(within(point, arrow.chip, room=0) for point in points(arrow.path))
    return layout


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.title)
def test_nothing_overlaps_and_nothing_is_outside(graph):
    check(graph)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_nothing_overlaps_in_any_graph(graph):
    check(graph)
    document = ElementTree.fromstring(svg([graph, graph]))
    _, _, width, height = map(float, document.get("viewBox").split())
    assert width > 0 and height > 0


def test_parallel_edges_are_kept_apart():
    layout = lay_out(PARALLEL)
    ways = [[point for point in points(arrow.path)] for arrow in layout.arrows if arrow.edge.source == "a"]
    middles = [way[len(way) // 2] for way in ways]
    assert all(abs(first[1] - second[1]) >= 9 for first, second in combinations(middles, 2))


def test_edges_follow_the_flow():
    for graph in (NB201, DARTS, NB101):
        place = {box.node.name: box.rect for box in lay_out(graph).boxes}
        assert all(place[edge.source].right < place[edge.target].x for edge in graph.edges)


def test_a_planar_cell_is_drawn_without_crossings():
    layout = lay_out(NB201)
    ways = [list(points(arrow.path)) for arrow in layout.arrows]
    for first, second in combinations(ways, 2):
        a, b = dict(((round(x), y) for x, y in first)), dict(((round(x), y) for x, y in second))
        above = {a[x] < b[x] for x in a.keys() & b.keys() if abs(a[x] - b[x]) > 1}
        assert len(above) <= 1


def test_a_deep_graph_runs_downwards_so_that_it_fits_the_page():
    layout = check(DEEP)
    assert layout.width < PAGE_WIDTH < layout.height


def test_a_long_chain_wraps_in_reading_order():
    layout = check(NETWORK)
    assert layout.width <= PAGE_WIDTH
    rects = [box.rect for box in layout.boxes]
    assert len({rect.y for rect in rects}) > 3
    assert all((a.y, a.x) < (b.y, b.x) for a, b in pairwise(rects))
    short = chain("short", NETWORK.nodes[:3])
    assert len({box.rect.y for box in lay_out(short).boxes}) == 1


def test_a_chain_with_labels_at_its_edges_keeps_them():
    graph = cell([("a", "b", "conv 3x3"), ("b", "c", "skip")])
    assert graph.is_chain and len(chips(check(graph))) == 2


def test_small_graphs_stand_side_by_side_and_large_ones_below():
    small, large = lay_out(PARALLEL), lay_out(NETWORK)
    places = arrange([small, small, large])
    assert places[0][1] == places[1][1] and places[1][0] > small.width
    assert places[2][0] == 0 and places[2][1] > small.height


def texts(source):
    return [element.text for element in ElementTree.fromstring(source).iter() if element.tag.endswith("}text")]


def test_every_label_is_there_and_the_output_is_the_same_again():
    source = svg(GRAPHS, title="all of them")
    assert source == svg(GRAPHS, title="all of them")
    written = texts(source)
    for graph in GRAPHS:
        for word in (graph.title, *(n.label for n in graph.nodes), *(n.detail for n in graph.nodes)):
            assert not word or word in written
        for label in {edge.label for edge in graph.edges} - {""}:
            assert written.count(label) >= sum(edge.label == label for edge in graph.edges)


def test_the_picture_needs_nothing_and_clashes_with_nothing():
    document = ElementTree.fromstring(svg(GRAPHS, title="x"))
    tags = {element.tag.rpartition("}")[2] for element in document.iter()}
    assert tags == {"svg", "g", "rect", "text", "title", "path", "polygon"}
    attributes = {name for element in document.iter() for name in element.attrib}
    assert not attributes & {"id", "class", "href", "style"}
    background = document[0]
    assert (background.tag.rpartition("}")[2], background.get("fill")) == ("rect", "#ffffff")
    assert float(background.get("width")) >= float(document.get("width")) - 1


def test_markup_and_control_characters_in_labels_are_text():
    wild = "</text><script>&amp;\"' \x00\x1b\ud800 \N{GREEK SMALL LETTER ALPHA}"
    graph = Graph(wild, (Node("a", wild, wild), Node("b", "b")), (Edge("a", "b", wild), Edge("a", "b")))
    source = svg([graph], title=wild)
    source.encode("utf-8")
    document = ElementTree.fromstring(source)
    assert "script" not in {element.tag.rpartition("}")[2] for element in document.iter()}
    labels = [text for text in document.itertext() if "<script>&amp;\"'" in text]
    assert len(labels) >= 4 and all(
        "\x00" not in text and "\N{GREEK SMALL LETTER ALPHA}" in text for text in labels[-2:]
    )


def test_a_long_label_is_shortened_and_told_in_full():
    words = "convolution " * 30
    text = Text(words, 13)
    assert text.shown.endswith("\N{HORIZONTAL ELLIPSIS}") and text.width <= text.room
    assert len(Text("x" * 100_000, 13).shown) < 60
    graph = Graph("", (Node("a", words), Node("b", "b")), (Edge("a", "b", words), Edge("a", "b")))
    document = ElementTree.fromstring(svg([graph]))
    titles = [element.text for element in document.iter() if element.tag.endswith("}title")]
    assert titles.count(words.strip()) == 2
    assert text_width("mmm", 13) > text_width("iii", 13) and text_width("a", 13, bold=True) > text_width("a", 13)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_operations_have_colours_of_their_own_that_text_is_read_on():
    assert all((luminance(fill) + 0.05) / (luminance(INK) + 0.05) > 7 for fill, _ in OPERATIONS)
    colours = operation_colours([NB201, DARTS])
    assert len(set(colours.values())) == len(colours) == 6
    assert operation_colours([DARTS, NB201]) == colours
    many = operation_colours([chain("", [Node(str(i), f"operation {i}") for i in range(50)])])
    assert set(many.values()) == set(OPERATIONS)
    shared = {"skip": ("#123456", "#654321")}
    assert 'fill="#123456"' in svg([NB201], colours=shared)


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ("ab", ["ab", "ba"], "has a cycle"),
        ("a", ["aa"], "has a cycle"),
        ("ab", ["ac"], "an edge to 'c', which is no node of it"),
        ("aab", ["ab"], "two nodes of the same name"),
    ],
)
def test_what_is_no_graph_is_refused(nodes, edges, message):
    graph = Graph("odd", tuple(Node(name, name) for name in nodes), tuple(Edge(*edge) for edge in edges))
    with pytest.raises(UserError, match=message):
        svg([graph])


def test_ranks_are_longest_paths_and_late_sources_stand_late():
    graph = cell([("a", "b"), ("b", "c"), ("a", "c"), ("late", "c")])
    assert node_ranks(graph) == {"a": 0, "b": 1, "c": 2, "late": 1}
    late = Graph("", (*graph.nodes[:3], Node("late", "late", kind="input")), graph.edges)
    assert node_ranks(late)["late"] == 0
    assert layered_layout(graph).boxes[3].rect.x > layered_layout(late).boxes[3].rect.x


def test_rounded_corners_stay_on_the_lines():
    path = rounded([(0, 0), (10, 0), (10, 40), (30, 40)])
    assert path[0] == ((0, 0),) and path[-1] == ((30, 40),)
    assert all(x in (0, 10) or y in (0, 40) or len(step) == 3 for step in path for x, y in step)


SHY = """
from torch import nn
from search_spaces import Decision, SearchSpace

class Shy(SearchSpace):
    name = "shy"
    decisions = (Decision("width", (4, 8)),)

    def __init__(self, *, depth=1):
        self.depth = depth

    def build(self, arch, task):
        width = self.choices(arch)["width"]
        layers = [nn.Conv2d(task.input_shape[0], width, 3), *(nn.Conv2d(width, width, 1) for _ in range(self.depth))]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, task.classes))

class Mute(Shy):
    name = "mute"

    def diagram(self, arch, task):
        raise RuntimeError("I have no picture\\nof myself")
"""


@pytest.fixture
def user_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "shy_space.py").write_text(SHY)
    yield
    sys.modules.pop("shy_space", None)


def test_survivors_are_drawn_and_a_failure_is_told(user_space, tmp_path):
    task, survivors = Task((3, 9, 9), 4), []
    for rank, name in enumerate(("shy_space:Shy", "shy_space:Mute", "shy_space:Shy"), start=1):
        space = get_space(name)
        arch = space.architecture([rank % 2])
        artefact = f"survivors/{rank}/searched"
        save_model(tmp_path / artefact, space.build(arch, task), build=SpaceBuild(name, {}, arch), task=task)
        survivors.append({"rank": rank, "candidate": rank + 5, "stages": [{"artefact": artefact}]})
    drawn = draw_survivors(tmp_path, survivors)
    assert [one["drawing"] for one in drawn] == ["survivors/1/architecture.svg", None, "survivors/3/architecture.svg"]
    assert [one["drawing_error"] for one in drawn] == [None, "RuntimeError: I have no picture of myself", None]
    assert all(one.items() >= before.items() for one, before in zip(drawn, survivors, strict=True))
    source = (tmp_path / "survivors/1/architecture.svg").read_text()
    assert {"Survivor 1, candidate 6", "3x9x9", "8x7x7"} <= set(texts(source))
    assert not (tmp_path / "survivors/2/architecture.svg").exists()


def test_the_command_draws_what_it_is_told(user_space, nasbench, tmp_path):
    words = ["shy_space:Shy", "[1]", "-o", "deep/shy.svg", "--input-shape", "1,7,7", "--option", "depth=2"]
    code, out, err = nasbench("draw", *words, "--classes", 3, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert list(report) == ["file", "space", "architecture", "params", "macs"]
    assert report | {"macs": 0} == {
        **{"file": "deep/shy.svg", "space": "shy_space:Shy", "architecture": "width=8", "macs": 0},
        "params": (9 * 8 + 8) + 2 * (64 + 8) + (8 * 3 + 3),
    }
    assert report["macs"] >= 25 * (9 * 8 + 2 * 64) + 24
    written = texts((tmp_path / "deep/shy.svg").read_text())
    assert written.count("8x5x5") == 3 and "1x7x7" in written and "shy: width=8" in written
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["shy.svg"]
    code, out, _ = nasbench("draw", "shy_space:Shy", "width=4", "-o", "shy.svg")
    assert code == 0 and "shy.svg: width=4" in out and "MACs at 3,32,32" in out
    code, out, _ = nasbench("check-space", "shy_space:Shy", "--option", "depth=3", "--json")
    assert json.loads(out)["size"] == 2


def test_an_architecture_is_named_in_three_ways():
    space = get_space("nasbench201")
    arch = read_architecture(space, "[0, 1, 2, 3, 4, 0]")
    assert arch.picks == (0, 1, 2, 3, 4, 0)
    assert read_architecture(space, space.format(arch)) == arch
    assert read_architecture(space, "random") == read_architecture(space, "random:0")
    assert len({read_architecture(space, f"random:{seed}") for seed in range(5)}) > 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shy_space:Shy", "[0]", "-o", "x.png"], "x.png does not end in .svg"),
        (["shy_space:Shy", "[5]", "-o", "x.svg"], "5"),
        (["shy_space:Shy", "[true]", "-o", "x.svg"], "width="),
        (["shy_space:Shy", "width=3", "-o", "x.svg"], "Known: 4, 8"),
        (["shy_space:Shy", "random:x", "-o", "x.svg"], "'random:x' has no seed"),
        (["nasbench2001", "[0]", "-o", "x.svg"], "Did you mean 'nasbench201'?"),
        (["shy_space:Shy", "[0]", "-o", "x.svg", "--option", "dept=1"], "Did you mean 'depth'?"),
        (["shy_space:Shy", "[0]", "-o", "x.svg", "--option", "depth"], "--option 'depth' is not key=value"),
        (["shy_space:Shy", "[0]", "-o", "x.svg", "--option", "depth=[1"], "not a YAML value"),
        (["shy_space:Shy", "[0]", "-o", "x.svg", "--input-shape", "3,x"], "--input-shape is '3,x'"),
    ],
)
def test_mistakes_cost_one_sentence(user_space, nasbench, tmp_path, words, message):
    code, out, err = nasbench("draw", *words)
    assert (code, out) == (2, "")
    assert message.lower() in err.lower() and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("x.*"))
