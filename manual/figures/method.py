"""The method: an expert from inside, how experts are fused, what a stage trains, what happens while one signs."""

from __future__ import annotations

from manual.figures.drawing import Drawing, sub


def expert() -> Drawing:
    """Draw a backbone: three streams, what the body lends to hands and face, and the projection."""
    drawing = Drawing(
        "expert",
        940,
        370,
        "An expert from inside",
        "Body, hands and face each go through a projection to 64 channels, three spatial blocks of 64, 128 and 256 "
        "channels and three temporal blocks of 256. Both hands share one stream. Between the stages the body's wrists "
        "are added to the hands and its nose to the face. Means over the joints, side by side, are projected to 768.",
    )
    rows = {
        "body": ("body", 54, "9 joints"),
        "left": ("left hand", 130, "21 joints"),
        "right": ("right hand", 184, "21 joints"),
        "face": ("face", 264, "18 joints"),
    }
    for x, said in (
        (66, "(x, y, c)"),
        (186, "3 → 64"),
        (330, "where joints are"),
        (552, "how they move"),
        (716, "mean over joints"),
    ):
        drawing.words(x, 30, said, 11.5, "quiet")
    for colour, (name, y, joints) in rows.items():
        drawing.box(18, y, 96, 42, stroke=colour, radius=6)
        drawing.words(66, y + 18, name, 12.5, colour, bold=True)
        drawing.words(66, y + 33, joints, 10.5, "quiet")
    drawing.box(142, 122, 486, 112, "panel", "line", dashed=True)
    drawing.words(284, 249, "one stream for both hands, as one batch", 11, "quiet")
    for colour, (_, y, _) in rows.items():
        middle = y + 21
        drawing.path([(118, middle), (146, middle)])
        drawing.labelled(152, y + 4, 68, 34, ["linear"], size=12)
        drawing.path([(224, middle), (242, middle)])
        drawing.labelled(248, y, 164, 42, ["spatial", "64 → 128 → 256"], size=12.5)
        drawing.path([(416, middle), (474, middle)])
        drawing.labelled(480, y, 140, 42, ["temporal", "256, 5 frames wide"], size=12.5)
        drawing.path([(624, middle), (664, middle)])
        drawing.box(670, y + 6, 92, 30, stroke=colour, radius=6)
        drawing.words(716, y + 26, "256 channels", 11.5, colour)
        drawing.path([(766, middle), (806, 180)], bend=True)
    drawing.path([(430, 75), (430, 146), (440, 146)], "body", dashed=True)
    drawing.path([(430, 146), (430, 200), (440, 200)], "body", dashed=True)
    drawing.path([(430, 200), (430, 280), (440, 280)], "body", dashed=True)
    drawing.words(436, 104, "+ wrists", 11, "body", "start")
    drawing.words(436, 262, "+ nose", 11, "body", "start")
    drawing.labelled(810, 148, 112, 64, ["projection", "1024 → 768"], "text-fill", "text", "text")
    drawing.path([(866, 216), (866, 246)])
    drawing.words(866, 266, sub("Z", "i"), 15, "text", bold=True)
    drawing.words(866, 284, "768 a frame", 11, "quiet")
    drawing.words(
        716, 330, "the means of both hands over time are also the hand prior that the router reads", 11, "quiet", "end"
    )
    drawing.words(
        18,
        352,
        "Dashed: without gradient, so the body's stream is not trained through the others.",
        11,
        "quiet",
        "start",
    )
    return drawing


def fusion() -> Drawing:
    """Draw what is between the experts and mT5, with the shapes of what flows."""
    drawing = Drawing(
        "fusion",
        940,
        352,
        "From three experts to one embedding",
        "Above, the hand priors of all experts become one query, attention sums them into a descriptor, a two-layer "
        "router gives a score for each expert, and softmax over the k largest gives weights. Below, an adapter refines "
        "each expert's embeddings, and the weighted sum of them is what mT5 reads.",
    )
    drawing.words(18, 30, "Which expert?  once a clip, from the hands alone", 12, "trained", "start", bold=True)
    for number in range(3):
        drawing.box(18, 48 + number * 30, 118, 24, stroke="right", radius=5)
        drawing.words(77, 64 + number * 30, f"hand prior {number + 1}", 11)
    drawing.path([(140, 90), (180, 90)])
    drawing.labelled(186, 62, 128, 56, ["query", "512 → 512 → 512"], "trained-fill", "trained", "trained", 12.5)
    drawing.path([(318, 90), (346, 90)])
    drawing.labelled(
        352, 62, 148, 56, ["attention", "over experts, LayerNorm"], "trained-fill", "trained", "trained", 12.5
    )
    drawing.path([(504, 90), (552, 90)])
    drawing.words(528, 80, sub("H", "global"), 11)
    drawing.labelled(558, 62, 122, 56, ["router", "512 → 1728 → 3"], "trained-fill", "trained", "trained", 12.5)
    drawing.path([(684, 90), (716, 90)])
    drawing.words(828, 52, "softmax of the k largest", 11, "quiet")
    for number, (weight, name) in enumerate(((0.64, "0.64"), (0.36, "0.36"), (0.0, "0"))):
        y = 60 + number * 22
        drawing.words(732, y + 13, sub("w", str(number + 1)), 11.5)
        drawing.box(750, y + 2, 130, 14, "panel", "edge", 3)
        if weight:
            drawing.box(750, y + 2, 130 * weight, 14, "trained", "trained", 3)
        drawing.words(888, y + 13, name, 11, "quiet", "start", mono=True)
    drawing.words(18, 178, "What does it see?  every frame", 12, "frozen", "start", bold=True)
    for number, sign in enumerate(("Chinese", "American", "British")):
        y = 194 + number * 48
        faint = number == 2
        drawing.labelled(
            18, y, 158, 40, [f"expert {number + 1} · {sign}"], "frozen-fill", "frozen", "frozen", 12, dashed=faint
        )
        drawing.path([(180, y + 20), (236, y + 20)], dashed=faint)
        drawing.words(209, y + 13, sub("Z", str(number + 1)), 11)
        drawing.labelled(
            242,
            y,
            258,
            40,
            ["adapter", "Z + LayerNorm(Z) · A · B,  rank 16"],
            "trained-fill",
            "trained",
            "trained",
            12,
            dashed=faint,
        )
        drawing.path([(504, y + 20), (700, 262)], dashed=faint, bend=True)
        drawing.words(524, y + 13, sub("Z̃", str(number + 1)), 11)
    drawing.dot(722, 262, 19, "box", "trained")
    drawing.words(722, 268, "Σ", 18, "trained", bold=True)
    drawing.path([(815, 132), (815, 190), (722, 190), (722, 238)], "trained")
    drawing.path([(744, 262), (796, 262)])
    drawing.words(770, 253, sub("Z", "fused"), 11)
    drawing.labelled(802, 232, 120, 60, ["mT5", "768 a frame"], "text-fill", "text", "text")
    drawing.words(922, 332, "k = 2: the third counts nothing in this clip", 11, "quiet", "end")
    return drawing


def stages() -> Drawing:
    """Draw which parts each stage trains."""
    drawing = Drawing(
        "stages",
        940,
        270,
        "What each stage trains",
        "Stage I trains an expert and its mT5 by the words it writes. Stage II trains adapters, aggregation, router "
        "and mT5's encoder against a frozen text encoder; Stage III trains the same and mT5's decoder by the words it "
        "writes. In both the experts stay frozen.",
    )
    columns = (
        ("expert", 190, 120),
        ("adapters, router", 322, 140),
        ("mT5 encoder", 474, 116),
        ("mT5 decoder", 602, 116),
        ("text encoder", 730, 116),
    )
    for name, x, width in columns:
        drawing.words(x + width / 2, 32, name, 12.5, bold=True)
    rows = (
        ("Stage I", "pretrain, once a language", ("trained", "", "trained", "trained", "")),
        ("Stage II", "align, for a new language", ("frozen", "trained", "trained", "frozen", "frozen")),
        ("Stage III", "finetune", ("frozen", "trained", "trained", "trained", "")),
    )
    losses = ("text: Eq. 3", "InfoNCE: Eq. 9", "text: Eq. 10")
    for number, (stage, said, states) in enumerate(rows):
        y = 48 + number * 68
        drawing.words(18, y + 24, stage, 14, "ink", "start", bold=True)
        drawing.words(18, y + 41, said, 11, "quiet", "start")
        for (_, x, width), state in zip(columns, states, strict=True):
            if state:
                drawing.labelled(x, y, width, 52, [state], f"{state}-fill", state, state, 12.5)
            else:
                drawing.box(x, y, width, 52, "panel", "edge", dashed=True)
        drawing.words(858, y + 31, losses[number].split(":")[0] + ",", 11.5, "ink", "start")
        drawing.words(858, y + 46, losses[number].split(": ")[1], 11, "quiet", "start")
    drawing.words(858, 32, "loss", 12.5, "ink", "start", bold=True)
    drawing.words(
        18,
        258,
        "Frozen means frozen: no gradient, and BatchNorm's statistics stay as they are, bit by bit.",
        11,
        "quiet",
        "start",
    )
    return drawing


def timeline() -> Drawing:
    """Draw what runs beside what while somebody signs two sentences."""
    drawing = Drawing(
        "timeline",
        940,
        268,
        "While somebody signs",
        "Frames are decoded and keypoints found while the signer signs. A sentence ends where the hands rest; only "
        "then encoder and decoder run, while the next sentence is already being signed.",
    )
    lanes = ("the signer", "decode", "keypoints", "segmenter", "experts, mT5")
    for number, lane in enumerate(lanes):
        y = 32 + number * 40
        drawing.words(120, y + 17, lane, 12, "ink", "end", bold=number == 0)
        drawing.path([(134, y + 28), (918, y + 28)], "edge", 1, arrow=False)
    for begin, end, name in ((150, 430, "first sentence"), (540, 800, "second sentence")):
        drawing.labelled(begin, 30, end - begin, 24, [name], "panel", "body", "body", 11.5)
        for step in range(int((end - begin) / 20) + 2):
            at = begin + step * 20
            drawing.box(at, 74, 13, 18, "frozen-fill", "frozen", 3)
            drawing.box(at + 9, 114, 15, 18, "frozen-fill", "frozen", 3)
        rest = end + 40
        drawing.box(begin, 154, rest - begin, 18, "panel", "line", 4)
        drawing.words((begin + rest) / 2, 167, "hands up", 10.5, "quiet")
        drawing.path([(rest, 150), (rest, 190)], "trained", 1.4, arrow=False, dashed=True)
        drawing.box(rest + 2, 194, 46, 20, "text-fill", "text", 4)
        drawing.words(rest + 54, 208, "text", 11.5, "text", "start", bold=True)
    drawing.words(484, 46, "rest", 10.5, "quiet")
    drawing.words(918, 248, "time →", 11, "quiet", "end")
    drawing.words(
        134, 248, "Dashed: the hands have rested for 0.4 s, and the sentence has ended.", 11, "quiet", "start"
    )
    return drawing
