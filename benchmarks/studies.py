"""What was measured: the list of the studies in `benchmarks/results`, from the page of each.

    python benchmarks/studies.py          # writes benchmarks/README.md

`harness shelve` makes the page of a study with records; that of another one is written by hand,
with its figures as they stand in the tables beside it.
"""

from __future__ import annotations

from pathlib import Path

from harness.report.shelf import studies_page

HERE = Path(__file__).resolve().parent
ANSWER = "answer"
"""Folder of the page that stands at the top (`benchmarks/answer/page.py` makes it)."""
INTRODUCTION = """\
## All studies

One folder a study: its page says why it was made and with what, `records.jsonl` holds every
number of it, a record a line, and every command that reads a folder reads it. `harness shelve`
makes one, [RULES.md](RULES.md) says how it is measured.

    python -m harness table benchmarks/results/small-speed

All of it but `gpu-*` and `longer-utdmhad` is of CPUs: absolute times there say little, ratios are
interleaved. One seed and the `tiny` encoder unless the study says otherwise. At budgets of some
dozens to hundreds of steps the linear probe of hardly any method beats raw coordinates on recorded
data: such studies try the harness, and judge no method.

## What came out

- **On a CPU speed is what FLOPs predict.** At `small` every measured ratio lies within 5 % of the
  FLOP ratio ([small-speed](results/small-speed)), at `base` GFP's too
  ([base-speed](results/base-speed)). The same command three times gives the same ratios while
  clips/s move by 20 % with the machine ([speed-repeated](results/speed-repeated)); with other work
  on one of two cores every verdict is *not measurable here*, as it should be
  ([speed-repeated/busy](results/speed-repeated/busy)).
- **On a GPU, launching kernels may take the time**: on an H200, in bf16 and uncompiled, at `base`
  and 256 body sequences, AMR trains 1.63x [1.49, 1.79] and GFP 1.29x [1.19, 1.40] as fast as MAMP,
  where FLOPs predict 5.00x and 4.47x. Both wait for the host all the time, at 5 % of the matmul
  peak; the encoder alone reaches 2.87x of 10.01x ([gpu-base](results/gpu-base)). What CUDA graphs
  or a faster host change is open. Every method gives the CPU's losses there
  ([gpu-losses](results/gpu-losses)).
- **A ratio moves with the processor**: the command of `make run` gave GFP 2.82x [2.68, 2.95] on an
  AMD EPYC ([synthetic-quick](results/synthetic-quick)) and 2.25x [2.21, 2.29] on an Intel Xeon
  ([synthetic-quick-intel](results/synthetic-quick-intel)), where FLOPs predict 3.00x.
- **Plain attention makes the baseline look slow.** It is MAMP's five-layer decoder over 750
  tokens that pays for it: the fused kernel lowers GFP's ratio by the factor 0.60 at `small` and
  0.74 at `base`, from above the FLOP ratio to below it at `small`
  ([small-explain](results/small-explain), [base-explain](results/base-explain)). So on a CPU a
  part of a speedup above the FLOP ratio is the kernel; whether that holds for the published GPU
  figures is open. What published feeding costs whom is open too: both studies are of version 1 of
  the rules, whose clock made methods with many parameters look slow under it.
- **The published speedups of GFP and AMR are not reached on the one GPU tried.** On an H200, every
  method trained as MAMP's released code trains, on made-up clips of NTU's size, GFP trains 4.13x
  [3.92, 4.35] and AMR 4.53x [4.44, 4.63] as fast as MAMP, 0.92 and 0.91 of what FLOPs predict;
  claimed are 6.2x (an RTX 4090), 6.1x for GFP again by AMR's authors and 8.1x (an L20), more than
  counted FLOPs explain. MAMP's step takes 53.7 GB so, more than those cards have: its hours there
  were of another way of training, and cards with less bandwidth may pay more for its attention. So
  this tests the factors on an H200, no hours. With every switch on MAMP itself trains 12.64x as
  fast per clip as published (7.47x per step, the rest is empty bodies left out), GFP 4.27x and AMR
  4.92x, and the ratios are 1.40x [1.17, 1.67] and 1.76x [1.51, 2.05]: GFP's and AMR's steps wait
  for the host, whose pace makes the intervals wide; CUDA graphs, off at every stage, are untried
  ([gpu-claims](results/gpu-claims)). On CPUs cards are evidence alone
  ([base-claims](results/base-claims), from before attention in fp32 was one of the switches).
- **A larger encoder, trained longer**: `small`, three seeds, a GPU, linear at 150,016 and 600,000
  clips: AMR 78.6 and 78.8 %, GFP 78.2 and 68.3 % (-9.9 ± 11.9 points, not resolved), raw
  coordinates 77.0 %; by that probe nobody is told apart from AMR, not even the untrained encoder.
  Fine-tuned for 30 epochs AMR is above GFP and above training from scratch, 85.0 to 74.3 and
  66.0 %, which are not told apart. That is 1,860 epochs over 323 clips: what it does on a large set
  is open. GFP does not repeat on a GPU: the same seeds run twice differed by up to 3.3 points at
  300,032 clips, where AMR's were equal to the clip. The plan's quiet speed measurement was not had:
  processes that waited for it held the GPU, which they no longer do
  ([longer-utdmhad](results/longer-utdmhad)).
- **The published way of training is the published one**: its step costs what MAMP's released step
  does, within 2 % ([as-published](results/as-published)), and its protocols give the released
  losses ([protocol-parity](results/protocol-parity)). Of a step on this suite's way attention is
  the larger part; torch's CPU kernel for it is slower in bf16 than in fp32
  ([step-profile](results/step-profile)).
- **Who represents better**: with six seeds AMR above SkeletonMAE by two of three frozen
  protocols, raw coordinates above all ([utdmhad-protocols](results/utdmhad-protocols), whose speeds
  were measured beside other work and are taken for nothing). With
  three seeds at 4,000 clips or 10 s almost no published trend is resolved; of 32 intervals,
  uncorrected, one leaves zero out, against its paper, and with Holm over all pairs no two rows
  are told apart ([utdmhad-trends](results/utdmhad-trends),
  [uiprmd-trends](results/uiprmd-trends)). On UTD-MHAD no row was 5 points above the untrained
  encoder there, so the target in `target.md` means nothing on it; nor can rankings at equal clips
  and equal seconds agree where nothing is resolved.
- **A second process on one CPU is worth** 94 % of itself to MAMP at `base`, 74 % to AMR and 43 % to
  GFP, whose step it slows down: what is lost grows with the gradients that the processes
  exchange, 41.5 MB a step with MAMP and AMR, 195.4 MB with GFP, whose global level has 36 of its
  48.9 million parameters ([ranks-speed](results/ranks-speed)).
- **A smaller encoder runs about as much faster as FLOPs say**: half of the frames in patches of 8
  5.46x for 4.94x, `small` 3.60x for 4.01x ([inference](results/inference)).
- **Two readings of GFP's loss weights** are not told apart ([gfp-weights](results/gfp-weights)).
- **The harness costs nothing** that its own interval shows ([overhead](results/overhead)), and no
  step waits for data at NTU RGB+D 60's size ([ntu60-speed](results/ntu60-speed)).

## Every study

This list is made of their pages:

"""


def page() -> str:
    """The answer, then the list with what is to say about it."""
    studies = studies_page(HERE / "results", HERE, "python benchmarks/studies.py")
    top = top_of((HERE / ANSWER / "README.md").read_text(encoding="utf-8"), ANSWER)
    more = f"[All of the answer]({ANSWER}/README.md), [its plan]({ANSWER}/plan.yaml)."
    return f"# What was measured\n\n{top}\n{more}\n\n{INTRODUCTION}{studies}"


def top_of(text: str, folder: str) -> str:
    """Sentence, table and picture of a page, for one that finds it in ``folder``."""
    _, _, rest = text.partition("\n")
    return rest.partition("\n## ")[0].replace("](", f"]({folder}/").strip() + "\n"


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(), encoding="utf-8")
