"""Run thousands of small jobs with lying workers on the real rules of the ledger, and count.

    python scripts/small_jobs.py                 # 10,000 jobs, 1 to 33 % liars
    python scripts/small_jobs.py --jobs 1000 --seed 7 --json

Exit 1 if a wrong result of compared work was paid, a right one was not, an honest worker was
blamed or slashed, money is missing, or lying where nobody compares was worth it.
"""

import argparse
import sys
import time

import msgspec

from prsm.testnet.smalljobs import Count, Market, Report, Terms


def table(title: str, counts: dict[int, Count], *, is_alone: bool) -> list[str]:
    """One line for each share of liars."""
    lines = [f"{title}: liars, jobs, lied in, paid, refunded, wrong paid, right unpaid"]
    for percent, c in counts.items():
        line = f"  {percent:>3} %  {c.jobs:>6} {c.lies:>6} {c.paid:>6} {c.refunded:>5}"
        line += f" {c.wrong_paid:>5} {c.honest_unpaid:>4}"
        if is_alone:
            line += f"  drawn {c.drawn}, caught {c.caught}"
            line += f", gained {c.lied_for}, lost {c.slashed} micro-FTNS"
        lines.append(line)
    return lines


def page(report: Report, seconds: float) -> str:
    """What a person reads."""
    lies = ", ".join(f"{name} {number}" for name, number in sorted(report.lies.items()))
    return "\n".join(
        [
            *table("two of three", report.compared, is_alone=False),
            *table("one of one, audited", report.alone, is_alone=True),
            f"lies: {lies}",
            f"{report.blocks} blocks, {report.transactions} transactions, {seconds:.1f} s of CPU",
            *(f"failed: {what}" for what in report.broken()),
        ]
    )


def main() -> int:
    """Run, print, and say by the exit code whether all of it held."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    began = time.process_time()
    report = Market(Terms(jobs=args.jobs, seed=args.seed)).run()
    seconds = time.process_time() - began
    if args.json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        sys.stdout.write(page(report, seconds) + "\n")
    return 1 if report.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
