"""What a run leaves behind: one record per request, and the directory they stand in."""

from fairshare_locust.record.record import OUTCOMES, RequestRecord
from fairshare_locust.record.run_directory import RunDirectory
from fairshare_locust.record.store import RecordStore
from fairshare_locust.record.writer import RecordWriter

__all__ = ["OUTCOMES", "RecordStore", "RecordWriter", "RequestRecord", "RunDirectory"]
