"""Commands and connections into pods. They stand below `containers`, above `watches`.

exec_sync   ExecSync
urls        Exec, Attach and PortForward, which return a URL of the stream process
clients     what the front does once the client of such a URL has come, wants a connection, or has gone
"""
