"""The parts of `prsm.client`: calls that retry, handles of long work, events, receipts."""
