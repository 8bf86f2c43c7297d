"""The embedded server's configuration files, written anew before each start, so that they follow the code.

Only what differs from PostgreSQL's defaults is set, each with its reason. `ALTER SYSTEM` still wins over
these.
"""

import os

from backfill_pipeline.storage.server_places import Layout, user_name

ROLE = "backfill"
PORT = 5432  # only part of the socket's file name; each home has a socket folder of its own

SETTINGS = f"""\
# Nobody over the network; the socket's folder has mode 0700; pg_hba.conf says the rest.
listen_addresses = ''
port = {PORT}
unix_socket_permissions = 0700
# The UI, the daemon and each run hold several connections each; four runs at once come to about 40.
max_connections = 100

# A laptop that loads millions of bars. fsync and synchronous_commit stay on: green survives a power cut.
shared_buffers = 256MB            # default 128MB; the hot ends of the bars' indexes of some hundred symbols
maintenance_work_mem = 256MB      # default 64MB; building an index over 50 million bars
work_mem = 32MB                   # default 4MB; sorting a symbol's years of minutes without a temporary file
max_wal_size = 2GB                # default 1GB; a million bars are some 200 MB of WAL
checkpoint_timeout = 15min        # default 5min; each checkpoint makes the next change of a page log it whole
wal_compression = on              # default off; a third of the WAL of a bulk load, for little CPU
random_page_cost = 1.1            # default 4.0, a spinning disk's
jit = off                         # the queries are short: compiling one takes longer than it saves
min_dynamic_shared_memory = 64MB  # parallel joins overrun a container's /dev/shm of 64 MB

timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'

# Seven files, one a weekday, each overwritten after a week.
logging_collector = on
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_line_prefix = '%m [%p] %q%u@%d %a '
log_checkpoints = off             # default on; a line each quarter of an hour says nothing to anybody here
"""

ACCESS = f"""\
# Role {ROLE} over the socket, for the one OS user that pg_ident.conf names. There is no other way in.
local all {ROLE} peer map=owner
"""


def write_config(layout: Layout) -> None:
    """Write backfill.conf, pg_hba.conf and pg_ident.conf; data/postgresql.conf includes the first."""
    places = {
        "unix_socket_directories": layout.socket_dir,
        "log_directory": layout.logs,
        "hba_file": layout.conf / "pg_hba.conf",
        "ident_file": layout.conf / "pg_ident.conf",
    }
    paths = "".join(f"{name} = {_quoted(str(path))}\n" for name, path in places.items())
    _write(layout, "backfill.conf", f"{SETTINGS}\n{paths}")
    _write(layout, "pg_hba.conf", ACCESS)
    _write(layout, "pg_ident.conf", f'owner "{user_name(os.geteuid())}" {ROLE}\n')


def _quoted(text: str) -> str:
    """A value of postgresql.conf, where backslashes are escapes. A socket's folder list splits at commas:
    ours has none.
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _write(layout: Layout, name: str, text: str) -> None:
    draft = layout.conf / f".{name}"
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o644)  # the server's user reads it; there is no secret in it
    draft.replace(layout.conf / name)
