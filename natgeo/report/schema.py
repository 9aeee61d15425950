"""The fields of a result document, section by section, and what each may hold."""

from __future__ import annotations

from natgeo.report.fields import (
    choice,
    flag,
    mapping,
    maybe,
    number,
    record,
    rows,
    text,
    thumbnail,
    whole,
)

KINDS = ("demo", "certify", "scan", "attribution", "convex")

_FRACTION = number(0, 1)
_RADIUS = number(0)
_PICTURES = {"target": thumbnail, "above": thumbnail, "below": thumbnail}

_SUMMARY = record({"label": text(empty=False), "value": text()}, {"note": text()})
_SCALE = record(
    {"says": rows(text(), most=50)},
    {
        "rows": rows(
            record(
                {"change": text(empty=False)},
                {"covariance": number(0), "moved": number(0)},
            ),
            most=100,
        )
    },
)
_GUARANTEE = record(
    {"says": text(empty=False)},
    {"does_not_say": rows(text(), most=50), "scale": _SCALE},
)
_GEOMETRY = record(
    {"N": whole(1), "K": whole(1)},
    {
        "M": whole(),
        "ridge": number(0),
        "condition": number(0),
        "effective_dimension": number(0),
        "spectral_amplification": number(0),
        "eta": number(0),
        "sha256": text("[0-9a-f]{64}", "64 hexadecimal digits"),
    },
)
_CURVE = record(
    {
        "radii": rows(number(), least=2, most=10_000),
        "certified": rows(_FRACTION, most=10_000),
    },
    {
        "euclidean_radii": rows(_RADIUS, most=10_000),
        "sensitivity_natural": rows(_FRACTION, most=10_000),
        "sensitivity_euclidean": rows(_FRACTION, most=10_000),
        "matched": number(0),
        "amplification_median": number(0),
        "amplification_max": number(0),
        "targets": whole(1),
        "pairs": whole(),
    },
)
_PROPONENT = record(
    {"index": whole(), "score": number(), "lowest": whole(1), "highest": whole(1)},
    {"rank": whole(1), "label": text(), "flipped": flag, "thumbnail": thumbnail},
)
_TOP_K = record(
    {"k": whole(1), "inside": whole(), "undecided": whole(), "outside": whole()}, {}
)
_TARGET = record(
    {"target": whole(), "proponents": rows(_PROPONENT, most=1000)},
    {
        "label": text(),
        "predicted": text(),
        "thumbnail": thumbnail,
        "eps": _RADIUS,
        "top_k": _TOP_K,
    },
)
_PAIR = record(
    {
        "target": whole(),
        "above": whole(),
        "below": whole(),
        "claim": text(empty=False),
        "radius": _RADIUS,
        "status": choice("certified", "undecided", "refuted"),
    },
    {
        "eps": _RADIUS,
        "thumbnails": record({}, _PICTURES),
        "counterexample": record(
            {
                "cost": _RADIUS,
                "gap_before": number(),
                "gap_after": number(),
                "flips": flag,
            },
            {},
        ),
    },
)
_DETECTOR = record(
    {"name": text(empty=False)},
    {
        "auroc": _FRACTION,
        "recall_at_20": _FRACTION,
        "recall_curve": rows(rows(_FRACTION, least=2, most=2), most=10_000),
        "roc_curve": rows(rows(_FRACTION, least=2, most=2), most=10_000),
    },
)
_SUSPICIOUS = record(
    {"index": whole(), "rank": whole(1), "score": number()},
    {
        "given": text(),
        "suggested": text(),
        "flipped": flag,
        "certified_top": flag,
        "thumbnail": thumbnail,
    },
)
_SCAN = record(
    {},
    {
        "known_flips": whole(),
        "detectors": rows(_DETECTOR, most=50),
        "suspicious": rows(_SUSPICIOUS, most=10_000),
    },
)
_INFLUENCE = record(
    {"row": whole(), "influence": number(), "half_width": number(0)},
    {"label": text(), "low": number(), "high": number(), "left_out": number()},
)
_EXPLAINED = record(
    {"row": whole(), "influences": rows(_INFLUENCE, most=1000)},
    {"label": text(), "predicted": text(), "loss": number()},
)
_CONVEX = record(
    {
        "label": text(empty=False),
        "loss": choice("squared", "logistic", "multinomial"),
        "N": whole(1),
        "columns": whole(1),
        "ridge": number(0),
        "eps": _RADIUS,
    },
    {
        "says": text(),
        "chosen": text(),
        "validation": rows(
            record({"ridge": number(0), "loss": number(), "error": number(0)}, {}),
            most=1000,
        ),
        "targets": rows(_EXPLAINED, most=1000),
        "suspects": rows(
            record({"row": whole(), "score": number(0)}, {"label": text()}), most=10_000
        ),
        "notes": rows(text(), most=1000),
    },
)
_SHA256 = text("[0-9a-f]{64}", "64 hexadecimal digits")
_EXAMPLE = {"name": text(), "text": text(), "thumbnail": thumbnail}
_QUEUED = record(
    {"index": whole(), "rank": whole(1), "score": number(), "given": whole()},
    {
        **_EXAMPLE,
        "suggested": whole(),
        "confidence": _FRACTION,
        "given_probability": _FRACTION,
        "supports_given": rows(whole(), most=10),
        "supports_suggested": rows(whole(), most=10),
        "lowest": whole(1),
        "highest": whole(1),
        "wrong": flag,
    },
)
_REVIEW = record(
    {
        "fingerprint": _SHA256,
        "examples": whole(1),
        "classes": rows(text(), least=1, most=10_000),
        "detector": text(empty=False),
        "queue": rows(_QUEUED, most=10_000),
    },
    {
        "disagree": whole(),
        "columns": rows(text(), most=1000),
        "others": mapping(record({"given": whole()}, _EXAMPLE), most=100_000),
        "confusion": rows(
            record({"given": whole(), "suggested": whole(), "count": whole(1)}, {}),
            most=10_000,
        ),
        "histogram": record(
            {
                "edges": rows(number(), least=2, most=1000),
                "counts": rows(whole(), least=1, most=1000),
            },
            {"wrong": rows(whole(), most=1000), "cut": number()},
        ),
        "certified": record(
            {
                "eps": _RADIUS,
                "fraction": _FRACTION,
                "shares": rows(
                    record(
                        {
                            "share": _FRACTION,
                            "count": whole(),
                            "inside": whole(),
                            "outside": whole(),
                            "undecided": whole(),
                        },
                        {},
                    ),
                    most=20,
                ),
            },
            {},
        ),
    },
)
DOCUMENT = record(
    {
        "natgeo": text(r"[0-9A-Za-z.+!_-]{1,60}", "a version such as '0.1.0'"),
        "format": whole(),
        "kind": choice(*KINDS),
        "title": text(empty=False),
    },
    {
        "summary": rows(_SUMMARY, most=24),
        "guarantee": _GUARANTEE,
        "geometry": _GEOMETRY,
        "curve": _CURVE,
        "targets": rows(_TARGET, most=1000),
        "pair": _PAIR,
        "scan": _SCAN,
        "convex": _CONVEX,
        "review": _REVIEW,
        "provenance": mapping(maybe(text()), most=500),
    },
)
