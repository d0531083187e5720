"""ClickHouse's HTTP interface in front of the engine as a library, for tests on machines that have no server.

    python clickhouse_server.py PORT FOLDER USER PASSWORD

Tables, settings, limits and errors are the engine's own. This program adds what a server has around it: the user and the
password, settings in the URL, server-side parameters, answers that flow as they are computed, inserts that flow in, and the end
of a query whose client hangs up. It has no Keeper, so no replicated tables and no ON CLUSTER.
"""

import base64
import http.server
import os
import re
import secrets
import select
import socket
import sys
import tempfile
import threading
import urllib.parse
import uuid

from chdb import _chdb

# Of the URL, what is no setting of the engine.
NOT_SETTINGS = {
    "query", "database", "default_format", "query_id", "user", "password", "role", "wait_end_of_query",
    "cancel_http_readonly_queries_on_client_close",
}
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
READ_BYTES = 1 << 16
# How often it looks whether a client is still there.
LOOK_S = 0.02


class Refused(Exception):
    """An error that the engine did not raise, in its form."""


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet, or small answers wait for the other side's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        if urllib.parse.urlparse(self.path).path in ("/", "/ping") and "?" not in self.path:
            return self.whole(200, b"Ok.\n")
        return self.do_POST()

    def do_POST(self):
        url = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query, keep_blank_values=True))
        connection = None
        try:
            self.authenticate()
            connection = _chdb.connect(FOLDER)
            self.run(connection, url)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except (RuntimeError, Refused) as error:
            self.refuse(str(error))
        finally:
            if connection is not None:
                connection.close()

    def authenticate(self):
        user, password = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")
        basic = self.headers.get("Authorization", "")
        if basic.startswith("Basic "):
            user, _, password = base64.b64decode(basic[6:]).decode().partition(":")
        if (user or "default", password or "") != (USER, PASSWORD):
            name = user or "default"
            raise Refused(
                f"Code: 516. DB::Exception: {name}: Authentication failed: password is incorrect, or there is no user with "
                "such name. (AUTHENTICATION_FAILED)"
            )

    def run(self, connection, url):
        parameters = {name[6:]: value for name, value in url.items() if name.startswith("param_")}
        comment = str(uuid.uuid4())
        settings = {n: v for n, v in url.items() if n not in NOT_SETTINGS and not n.startswith("param_")}
        readonly = settings.pop("readonly", None)
        if "database" in url:
            connection.query("USE `" + url["database"].replace("`", "") + "`", "Null", params={})
        # By this name a query is found when its client hangs up.
        settings["log_comment"] = comment
        changes = ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
        connection.query("SET " + changes, "Null", params={})
        if readonly is not None:
            connection.query("SET readonly = " + quoted(readonly), "Null", params={})
        sql = url.get("query", "")
        if re.match(r"\s*INSERT\b", sql, re.IGNORECASE) and FORMAT.search(sql):
            return self.insert(connection, sql)
        body = b"".join(self.chunks())
        content_type = self.headers.get("Content-Type", "")
        if content_type.startswith("multipart/form-data"):
            fields = multipart(body, content_type.partition("boundary=")[2].strip('"'))
            sql += fields.pop("query", "")
            parameters.update({name[6:]: value for name, value in fields.items() if name.startswith("param_")})
        else:
            sql += body.decode()
        if re.search(r";\s*\S", without_quotes(sql)):
            raise Refused("Code: 62. DB::Exception: Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)")
        form = url.get("default_format", "TabSeparated")
        found = FORMAT.search(sql)
        if found:
            form, sql = found.group(1), sql[: found.start()]
        if re.match(r"\s*(SELECT|WITH)\b", without_comments(sql), re.IGNORECASE):
            cancel = url.get("cancel_http_readonly_queries_on_client_close") == "1"
            return self.stream(connection, sql, form, parameters, comment, cancel)
        answer = connection.query(sql, form, params=parameters).bytes()
        return self.whole(200, answer, {"X-ClickHouse-Format": form})

    def insert(self, connection, sql):
        """The body is rows, appended as they come."""
        found = FORMAT.search(sql)
        inserter = connection.send_insert(sql[: found.start()], found.group(1))
        try:
            for chunk in self.chunks():
                connection.insert_append(inserter, chunk)
        except (RuntimeError, OSError):
            connection.insert_cancel(inserter)
            self.close_connection = True
            raise
        connection.insert_done(inserter)
        return self.whole(200, b"")

    def stream(self, connection, sql, form, parameters, comment, cancel):
        """Rows go to the client through a pipe while they are computed, so that a slow client slows the query."""
        path = os.path.join(PIPES, comment)
        os.mkfifo(path)
        pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        outcome = []

        def ask():
            text = f"{sql.rstrip().rstrip(';')}\nINTO OUTFILE {quoted(path)} APPEND FORMAT {form}"
            try:
                connection.query(text, "Null", params=parameters)
                outcome.append(None)
            except RuntimeError as error:
                outcome.append(str(error))

        query = threading.Thread(target=ask)
        query.start()
        try:
            self.forward(pipe, query, outcome, form, comment, cancel)
        finally:
            # Without a reader the query's next write fails, and so it ends.
            os.close(pipe)
            query.join()
            os.unlink(path)

    def forward(self, pipe, query, outcome, form, comment, cancel):
        tag = secrets.token_hex(8)
        begun = False
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while True:
            ended = not query.is_alive()
            data = b""
            events = poll.poll(LOOK_S * 1000)
            if any(event & select.POLLIN for _, event in events):
                data = os.read(pipe, READ_BYTES)
            elif events and not ended:
                # The query has closed its end and is about to be over.
                query.join(LOOK_S)
            elif not ended and cancel and self.gone():
                kill(comment)
                self.close_connection = True
                return
            if data or (ended and outcome[0] is None and not begun):
                if not begun:
                    self.begin(form, tag)
                    begun = True
                self.chunk(data)
            if ended and not data:
                break
        error = outcome[0]
        if error is None:
            self.wfile.write(b"0\r\n\r\n")
        elif not begun:
            self.refuse(error)
        else:
            # After rows an error can only follow them; the missing last chunk says the same.
            text = error.encode() + b"\n"
            marks = f"{len(text)} {tag}\r\n__exception__\r\n".encode()
            self.chunk(f"\r\n__exception__\r\n{tag}\r\n".encode() + text + marks)
            self.close_connection = True

    def begin(self, form, tag):
        self.send_response(200)
        self.send_header("X-ClickHouse-Format", form)
        self.send_header("X-ClickHouse-Exception-Tag", tag)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        if data:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

    def gone(self):
        """Whether the client has hung up."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def chunks(self):
        """The body, as it comes."""
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            left = int(self.headers.get("Content-Length") or 0)
            while left > 0:
                data = self.rfile.read(min(left, READ_BYTES))
                if not data:
                    raise ConnectionResetError("the body ends early")
                left -= len(data)
                yield data
            return
        while True:
            line = self.rfile.readline()
            if not line.strip():
                raise ConnectionResetError("the body ends early")
            size = int(line.split(b";")[0], 16)
            data = self.rfile.read(size)
            if len(data) < size:
                raise ConnectionResetError("the body ends early")
            self.rfile.readline()
            if size == 0:
                return
            yield data

    def whole(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, error):
        found = re.search(r"Code: (\d+)", error)
        code = found.group(1) if found else "1000"
        status = {"516": 403, "60": 404, "81": 404}.get(code, 500)
        self.whole(status, error.encode() + b"\n", {"X-ClickHouse-Exception-Code": code})


def kill(comment):
    connection = _chdb.connect(FOLDER)
    try:
        connection.query(f"KILL QUERY WHERE Settings['log_comment'] = {quoted(comment)} ASYNC", "Null", params={})
    finally:
        connection.close()


def without_comments(sql):
    return re.sub(r"--[^\n]*\n|/\*.*?\*/", " ", sql, flags=re.DOTALL)


def without_quotes(sql):
    return re.sub(r"'(?:[^'\\]|\\.)*'|`[^`]*`|\"[^\"]*\"", "", without_comments(sql), flags=re.DOTALL)


def multipart(body, boundary):
    """The fields of a form. Nothing in them is a file."""
    fields = {}
    for part in body.split(b"--" + boundary.encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]+)"', head).group(1).decode()
        fields[name] = value[:-2].decode()
    return fields


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    PORT, FOLDER, USER, PASSWORD = int(sys.argv[1]), *sys.argv[2:5]
    PIPES = tempfile.mkdtemp(prefix="pipes-", dir=os.path.dirname(FOLDER))
    # The engine stays open for as long as one connection does.
    ENGINE = _chdb.connect(FOLDER)
    Server(("127.0.0.1", PORT), Request).serve_forever()
