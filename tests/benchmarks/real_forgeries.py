"""What a real-camera forgery costs, in Pillow JPEG round trips of its size: python FILE [--json OUT].

Both are timed in one process, one thread, one after the other: forgery number i of 128 pixels, then a save (quality 85,
4:2:0) and opening of that same picture. The first `WARM_UP` forgeries do not count: they fill the cache of decoded
photographs. From then on every photograph is decoded anew once in `TURN` forgeries; `decode` is that share of a
forgery. The goal is `ratio` ≤ 8. Needs MPC_LITE_DATA; photographs and ranges are those of the recipe lite2.
"""

import statistics
import time
from collections import defaultdict

import cv2
import torch
from side_by_side import report

from mpc_lite.forgeries import photographs as cache
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.images import decode, encode_jpeg
from mpc_lite.recipes.load import load_recipe

WARM_UP, COUNT, BLOCKS = 4000, 1600, 8


def timed(do, *arguments):
    start = time.perf_counter()
    result = do(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    recipe = load_recipe("lite2", overrides={"data.real.share": 1.0})
    size = recipe.data.size
    stream = Stream("train", recipe.seed, recipe.data, size)
    # All photographs once, as they come in a turn: seconds of decoding that each forgery of the turn has a share in.
    decoding, _ = timed(lambda: [stream.photographs.window(k, 0, 0) for k in range(len(stream.photographs))])
    held = cache.cached_bytes()
    for index in range(WARM_UP):
        stream(index, size)
    forgeries, trips = defaultdict(list), []
    for index in range(WARM_UP, WARM_UP + COUNT):
        seconds, made = timed(stream, index, size)
        forgeries[made.kind].append(seconds)
        forgeries["all"].append(seconds)
        trips.append(timed(lambda image: decode(encode_jpeg(image, 85, 2)), made.image)[0])
    trip, shared = statistics.mean(trips), decoding / cache.TURN
    block = COUNT // BLOCKS
    each = [
        (sum(forgeries["all"][i : i + block]) + block * shared) / sum(trips[i : i + block])
        for i in range(0, COUNT, block)
    ]
    rows = {
        kind: {
            "count": len(seconds),
            "milliseconds": 1000 * statistics.mean(seconds),
            "ratio": statistics.mean(seconds) / trip,
        }
        for kind, seconds in sorted(forgeries.items())
    }
    total = rows["all"]["ratio"] + shared / trip
    lines = [
        f"{k:<10} {r['count']:5} {r['milliseconds']:7.2f} ms {r['ratio']:6.2f} round trips" for k, r in rows.items()
    ]
    lines.append(
        f"decoding adds {shared / trip:.2f}; a round trip takes {1000 * trip:.2f} ms; cache {held / 2**20:.0f} MiB"
    )
    lines.append(
        f"steady stream: {total:.2f} round trips a forgery ({min(each):.2f}–{max(each):.2f} in {BLOCKS} blocks)"
    )
    report(
        lines,
        {
            "size": size,
            "round_trip_milliseconds": 1000 * trip,
            "decode": shared / trip,
            "ratio": {"mean": total, "low": min(each), "high": max(each)},
            "cache_bytes": held,
            "kinds": rows,
        },
    )


if __name__ == "__main__":
    main()
