"""What an event says of a file: whose message it belongs to, where WAHA has it, and what is claimed of it.

Not one of schemas.facts: nothing is shown of it. It is the order to fetch something before it is gone.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from schemas import webhook
from schemas.facts import RankedContent
from schemas.ids import DEFAULT_SOURCE, normalize_jid, parse_message_id
from schemas.keys import ME, PEER
from schemas.normalize.head import Record
from schemas.normalize.messages import to_messages
from schemas.normalize.values import time_ms
from schemas.reading import Reader
from schemas.rows import ContentFact

EVENTS = frozenset({"message", "message.any"})
_MAX_URL_CHARS = 4096
_MAX_NAME_CHARS = 1024


class MediaFact(Struct, frozen=True, gc=False):
    """A message has a file. Times are Unix milliseconds."""

    session: str
    source: str
    chat: str
    raw_id: str
    author: str  # ME, PEER, or a person of a group
    message_id: str  # serialized
    lane: int
    ts_ms: int
    stamped_ms: int  # when WAHA had downloaded it: the envelope's time
    type: str
    url: str | None
    s3_bucket: str | None
    s3_key: str | None
    mimetype: str | None
    filename: str | None
    bytes: int | None
    sha256: str | None  # WhatsApp's own, hex


class _S3(Struct, gc=False):
    Bucket: str | None = None
    Key: str | None = None


class _Media(webhook.Media, gc=False):
    s3: _S3 | None = None


class _Reply(webhook.ReplyTo, gc=False):
    media: _Media | None = None


class _Payload(webhook.Payload):
    media: _Media | None = None
    replyTo: _Reply | None = None


class _Body(webhook.Webhook):
    payload: _Payload | None = None


class _Measures(Struct):
    bytes: int | None = None
    sha256: str | None = None


class _Extra(Struct):
    media: _Measures | None = None


_read = Reader(_Body)
_read_extra = msgspec.json.Decoder(_Extra)
_NO_MEDIA = _Media()


def to_media(body: bytes, record: Record, *, quoted: bool = False) -> list[MediaFact]:
    """The message's file, and with `quoted` the quoted message's as well. Raises as to_messages does; pure."""
    event = _read(body)
    payload = event.payload
    if payload is None or not (payload.hasMedia or payload.media or (quoted and payload.replyTo)):
        return []
    content = next((f.content for f in to_messages(body, record) if isinstance(f, RankedContent)), None)
    if content is None:  # an edit or a revoke that came as a message
        return []
    stamped_ms = time_ms(event.timestamp) or record.received_at_ms
    found = [_own(content, payload.media or _NO_MEDIA, record, stamped_ms)] if content.has_media else []
    if quoted and payload.replyTo is not None and payload.replyTo.media is not None:
        found += _quoted(content, payload.replyTo, event.me, record, stamped_ms)
    return found


def _own(content: ContentFact, media: _Media, record: Record, stamped_ms: int) -> MediaFact:
    measures = (_read_extra.decode(content.extra).media if content.extra else None) or _Measures()
    head = "true" if content.from_me else "false"
    tail = f"_{content.participant}" if content.participant else ""
    return MediaFact(
        content.session, record.source, content.chat, content.raw_id,
        ME if content.from_me else content.key_sender, f"{head}_{content.chat}_{content.raw_id}{tail}",
        record.lane, content.ts_ms, stamped_ms, content.type, *_places(media), content.mimetype,
        _short(content.filename), measures.bytes, measures.sha256,
    )  # fmt: skip


def _quoted(
    content: ContentFact, reply: _Reply, me: webhook.Me | None, record: Record, stamped_ms: int
) -> list[MediaFact]:
    """The job of the quoted message itself: if that is stored as well, there is one job for both."""
    media = reply.media or _NO_MEDIA
    url, bucket, key = _places(media)
    if not reply.id or (url is None and key is None):
        return []
    parsed = parse_message_id(reply.id)
    raw_id, named = (parsed.raw if parsed else reply.id), reply.participant or (parsed.participant if parsed else None)
    sender = normalize_jid(named) if named else None
    own_ids = [normalize_jid(i) for i in (me.id, me.lid) if i] if me is not None else []
    from_me = parsed.from_me if parsed else sender in own_ids
    group = content.chat.endswith(("@g.us", "@broadcast"))
    if group and not from_me and sender is None:
        return []
    tail = f"_{sender}" if group and sender else ""
    kind = (media.mimetype or "").partition("/")[0]
    return [MediaFact(
        content.session, record.source, content.chat, raw_id,
        ME if from_me else (sender or PEER) if group else PEER,
        f"{'true' if from_me else 'false'}_{content.chat}_{raw_id}{tail}",
        record.lane, content.ts_ms, stamped_ms, kind if kind in ("image", "video", "audio") else "document",
        url, bucket, key, media.mimetype or None, _short(media.filename), None, None,
    )]  # fmt: skip


def _places(media: _Media) -> tuple[str | None, str | None, str | None]:
    """URL, bucket and key as far as they can be used."""
    url = media.url if media.url and len(media.url) <= _MAX_URL_CHARS else None
    if media.s3 is not None and media.s3.Bucket and media.s3.Key and len(media.s3.Key) <= _MAX_NAME_CHARS:
        return url, media.s3.Bucket[:_MAX_NAME_CHARS], media.s3.Key
    return url, None, None


def _short(name: str | None) -> str | None:
    return name[:_MAX_NAME_CHARS] if name else None


def session_of(qualified: str) -> tuple[str, str]:
    """(source, session as that WAHA calls it) of a session's name among all servers."""
    source, colon, name = qualified.partition(":")
    return (source, name) if colon else (DEFAULT_SOURCE, qualified)
