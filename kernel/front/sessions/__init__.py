"""Commands and connections into pods. They stand below `containers`, above `watches`.

exec_sync   ExecSync
urls        Exec, Attach and PortForward, which return a URL of the stream process
clients     the front's part once the client of such a URL has connected, needs a connection, or has gone
"""
