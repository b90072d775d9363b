"""How far a long work has come: bytes done, rate, time left, and since when nothing moved. Pure.

Knows: samples of (time, bytes). Must not know: what is counted, clocks.
"""

from dataclasses import dataclass
from typing import Final

STALLED_MS: Final = 10_000  # silence below it is not worth a word
_SPAN_MS: Final = 5_000  # the rate is that of about the last five seconds
_SAMPLE_MS: Final = 200  # samples closer together are joined: a rate over a millisecond is noise


@dataclass(slots=True)
class Meter:
    """Counts one work.

    Attributes:
        size: bytes in all; 0 while unknown.
        done: bytes so far; may begin above 0 if earlier work is taken up again.
    """

    began_ms: int
    size: int = 0
    done: int = 0
    _rate: float = 0.0  # bytes a millisecond
    _sampled_ms: int = 0
    _sampled: int = 0
    _moved_ms: int = 0
    _is_first: bool = True

    def note(self, done: int, *, now_ms: int) -> None:
        """Take a sample; bytes never go back."""
        if self._is_first:
            # What was there at the beginning came at no rate of ours.
            self._is_first = False
            self.done = self._sampled = done
            self._sampled_ms = self._moved_ms = now_ms
            return
        if done > self.done:
            self.done = done
            self._moved_ms = now_ms
        elapsed = now_ms - self._sampled_ms
        if elapsed >= _SAMPLE_MS:
            rate = (self.done - self._sampled) / elapsed
            weight = min(1.0, elapsed / _SPAN_MS) if self._rate else 1.0
            self._rate += weight * (rate - self._rate)
            self._sampled_ms, self._sampled = now_ms, self.done

    @property
    def rate_bytes_per_s(self) -> int:
        """Of about the last five seconds."""
        return int(self._rate * 1000)

    @property
    def eta_ms(self) -> int | None:
        """Time left at this rate; None while nobody can tell."""
        left = self.size - self.done
        if left <= 0:
            return 0 if self.size else None
        return int(left / self._rate) if self._rate > 0 else None

    def stalled_ms(self, now_ms: int) -> int:
        """How long nothing has moved; 0 below `STALLED_MS`, and once all is done."""
        since = now_ms - (self.began_ms if self._is_first else self._moved_ms)
        is_over = bool(self.size) and self.done >= self.size
        return since if since >= STALLED_MS and not is_over else 0
