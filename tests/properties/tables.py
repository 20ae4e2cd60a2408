"""The tables of facts as the law's rows: what the database holds, and what schemas.law says that it shall hold.

Both sides come as table -> key -> row, in texts and Unix milliseconds; messages stand under their hashed key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import astuple, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from pipeline.postgres import Pool
from schemas.keys import message_key
from schemas.law import Stored
from schemas.law.stored import Key
from sql import SCHEMA

Rows = dict[str, dict[Key, Any]]


def _ms(column: str) -> str:
    return f"round(extract(epoch FROM t.{column}) * 1000)::bigint"


# One line a table: its columns as the law has them, key first; then where the session comes from.
_ABOUT_MESSAGES = "JOIN jids c ON c.id = t.chat_id JOIN sessions s ON s.id = c.session_id"
_OF_SESSIONS = "JOIN sessions s ON s.id = t.session_id"
_FETCHED: dict[str, tuple[int, str, str]] = {
    "contents": (
        3,
        f"""s.name, c.jid, t.key::text, t.raw_id, t.from_me, t.has_media, t.type, t.body, t.reply_to, {_ms("ts")},
            t.extra::text, {_ms("received_at")}, t.lane, k.rank::text, f.jid,
            round(extract(epoch FROM k.first_at) * 1000)::bigint""",
        f"""message_content t {_ABOUT_MESSAGES} JOIN message_keys k ON k.chat_id = t.chat_id AND k.key = t.key AND k.ts = t.ts
            LEFT JOIN jids f ON f.id = t.sender_id""",
    ),
    "acks": (
        4,
        f"""s.name, c.jid, t.key::text, p.jid, t.level,
            {_ms("server_at")}, {_ms("device_at")}, {_ms("read_at")}, {_ms("played_at")}""",
        f"message_acks t {_ABOUT_MESSAGES} LEFT JOIN jids p ON p.id = t.recipient_id",
    ),
    "edits": (
        4,
        f"s.name, c.jid, t.key::text, t.edit_id, t.unreadable, {_ms('at')}, t.event_id, t.body, t.body_before",
        f"message_edits t {_ABOUT_MESSAGES}",
    ),
    "revokes": (
        4,
        f"s.name, c.jid, t.key::text, p.jid, {_ms('at')}, t.event_id, t.body_before",
        f"message_revokes t {_ABOUT_MESSAGES} JOIN jids p ON p.id = t.by_id",
    ),
    "reactions": (
        4,
        f"s.name, c.jid, t.key::text, p.jid, {_ms('at')}, t.event_id, t.emoji",
        f"reactions t {_ABOUT_MESSAGES} JOIN jids p ON p.id = t.by_id",
    ),
    "votes": (
        4,
        f"s.name, c.jid, t.key::text, p.jid, {_ms('at')}, t.event_id, t.options, {_ms('failed_at')}",
        f"poll_votes t {_ABOUT_MESSAGES} JOIN jids p ON p.id = t.voter_id",
    ),
    "responses": (
        4,
        f"s.name, c.jid, t.key::text, p.jid, {_ms('at')}, t.event_id, t.response, t.guests, {_ms('failed_at')}",
        f"event_responses t {_ABOUT_MESSAGES} JOIN jids p ON p.id = t.by_id",
    ),
    "calls": (
        3,
        f"""s.name, t.call_id, p.jid, {_ms("received_at")}, {_ms("accepted_at")}, {_ms("rejected_at")}, t.detail,
            t.group_jid, t.is_video, t.is_group""",
        f"calls t {_OF_SESSIONS} LEFT JOIN jids p ON p.id = t.caller_id",
    ),
    "settings": (
        4,
        f"s.name, c.jid, t.setting, {_ms('at')}, t.event_id, t.value",
        "group_settings t JOIN jids c ON c.id = t.group_id JOIN sessions s ON s.id = c.session_id",
    ),
    "members": (
        4,
        f"s.name, c.jid, p.jid, {_ms('at')}, t.event_id, t.role, coalesce(t.by_jid, '')",
        """group_members t JOIN jids c ON c.id = t.group_id JOIN jids p ON p.id = t.person_id
           JOIN sessions s ON s.id = c.session_id""",
    ),
    "join_requests": (
        5,
        f"s.name, c.jid, p.jid, {_ms('at')}, t.action, t.event_id, coalesce(t.method, '')",
        """group_join_requests t JOIN jids c ON c.id = t.group_id JOIN jids p ON p.id = t.person_id
           JOIN sessions s ON s.id = c.session_id""",
    ),
    "labels": (
        2,
        f"""s.name, t.label_id, {_ms("described_at")}, t.described_event_id, coalesce(t.name, ''), t.color,
            coalesce(t.color_hex, ''), {_ms("at")}, t.event_id, t.deleted""",
        f"labels t {_OF_SESSIONS}",
    ),
    "chat_labels": (
        3, f"s.name, c.jid, t.label_id, {_ms('at')}, t.event_id, t.carried", f"chat_labels t {_ABOUT_MESSAGES}",
    ),
    "archived": (
        2, f"s.name, c.jid, {_ms('at')}, t.event_id, t.archived", f"chat_archive t {_ABOUT_MESSAGES}",
    ),
    "presence": (
        3,
        f"s.name, c.jid, p.jid, {_ms('at')}, t.event_id, t.state, {_ms('last_seen_at')}",
        f"presence t {_ABOUT_MESSAGES} JOIN jids p ON p.id = t.person_id",
    ),
    "sessions": (
        1,
        f"""s.name, {_ms("status_at")}, t.status, coalesce(t.engine, ''), coalesce(t.waha_version, ''), {_ms("me_at")},
            t.me, coalesce(t.me_lid, ''), coalesce(t.me_push_name, '')""",
        "sessions t JOIN sessions s ON s.id = t.id AND t.status_at IS NOT NULL",
    ),
    "statuses": (3, f"s.name, t.status, {_ms('at')}", f"session_status t {_OF_SESSIONS}"),
    "versions": (
        3, f"s.name, t.engine, t.version, {_ms('first_at')}, {_ms('last_at')}", f"session_versions t {_OF_SESSIONS}",
    ),
    "identities": (
        3,
        f"s.name, c.jid, p.jid, {_ms('at')}, t.fallen, t.source",
        """identities t JOIN jids c ON c.id = t.lid_id JOIN jids p ON p.id = t.phone_id
           JOIN sessions s ON s.id = c.session_id""",
    ),
    "names": (
        4,
        f"s.name, c.jid, t.source, t.name, {_ms('first_at')}, {_ms('last_at')}",
        "contact_names t JOIN jids c ON c.id = t.contact_id JOIN sessions s ON s.id = c.session_id",
    ),
    "seen": (
        2,
        f"s.name, c.jid, t.is_me, {_ms('first_seen_at')}, {_ms('last_seen_at')}",
        "contacts_seen t JOIN jids c ON c.id = t.contact_id JOIN sessions s ON s.id = c.session_id",
    ),
    "others": (
        3,
        f"""s.name, t.event, CASE t.event_id WHEN '' THEN t.body ELSE t.event_id END, {_ms("at")}, t.body,
            coalesce(t.chat, ''), coalesce(t.engine, '')""",
        f"other_events t {_OF_SESSIONS}",
    ),
}  # fmt: skip


async def fetch_tables(pool: Pool, sessions: list[str]) -> Rows:
    """What the database holds of these sessions."""
    found: Rows = {}
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL search_path = {SCHEMA}, public")
        for table, (keys, columns, source) in _FETCHED.items():
            records = await connection.fetch(f"SELECT {columns} FROM {source} WHERE s.name = ANY ($1)", sessions)
            rows = [_plain(table, tuple(r)) for r in records]
            found[table] = {row[:keys]: row[keys:] for row in rows}
            assert len(found[table]) == len(rows), f"{table} has doubles"
    return found


def _plain(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    if table == "contents":
        return (*row[:10], json.loads(row[10]) if row[10] is not None else None, *row[11:])
    return tuple(tuple(v) if isinstance(v, list) else v for v in row)


# ---------------------------------------------------------------- what the law says
def lawful_tables(stored: Stored, hash_key: bytes) -> Rows:
    """The rows of the law as `fetch_tables` answers them."""

    def key_of(table: str, key: Key) -> Key:
        if table in _KEYED:
            session, chat, raw_id, author, *rest = key
            return (session, chat, str(UUID(bytes=message_key(hash_key, author, raw_id))), *rest)
        return tuple(part or "" for part in key) if table == "versions" else key

    return {
        f.name: {key_of(f.name, key): _ROWS.get(f.name, tuple)(row) for key, row in getattr(stored, f.name).items()}
        for f in fields(Stored)
    }


_KEYED = frozenset({"contents", "acks", "edits", "revokes", "reactions", "votes", "responses"})


def _content(row: Any) -> Key:
    ranked, c = row.shown, row.shown.content
    extra = json.loads(c.extra) if c.extra is not None else None
    return (
        c.raw_id, c.from_me, c.has_media, c.type, c.body, c.reply_to, c.ts_ms, extra, ranked.received_at_ms, ranked.lane,
        str(UUID(bytes=ranked.rank)), c.sender, row.first_ms,
    )  # fmt: skip


def _vote(row: Any) -> Key:
    return (*(row.answer or (None, None, None)), row.failed_ms)


def _response(row: Any) -> Key:
    at_ms, event_id, what = row.answer or (None, None, (None, None))
    return (at_ms, event_id, *what, row.failed_ms)


def _session(row: Any) -> Key:
    at, *state = row.state
    me_at, *account = row.account or (None, None, "", "")
    return (_unix_ms(at), *state, _unix_ms(me_at) if me_at else None, *account)


def _unix_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


# Rows of the law that are not the tuples that their tables have.
_ROWS: dict[str, Callable[[Any], Key]] = {
    "contents": _content,
    "acks": lambda r: (r.rank, *r.times[2:]),  # nobody asks when a message was pending
    "edits": lambda e: (e.text is None, e.at_ms, e.event_id, e.text, e.text_before),
    "revokes": lambda r: (r.at_ms, r.event_id, r.text_before),
    "votes": _vote,
    "responses": _response,
    "calls": astuple,
    "labels": lambda r: (*(r.look or (None, None, "", None, "")), *r.state),
    "presence": lambda r: (*r.state, r.last_seen_ms),
    "sessions": _session,
    "statuses": lambda _: (),
    "seen": lambda r: (r[0], *r[1]),
    "others": lambda f: (f.at_ms, f.body, f.chat or "", f.engine or ""),
}


def difference(found: Rows, lawful: Rows) -> Iterable[str]:
    """A line for each row that is not as the law says."""
    for table, rows in lawful.items():
        for key in {*rows, *found[table]}:
            if rows.get(key) != found[table].get(key):
                yield f"{table} {key}: is {found[table].get(key)}, the law says {rows.get(key)}"
