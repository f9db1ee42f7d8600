"""A disk that forgets: what a journal's calls leave on it when the power goes.

Only what was synced is sure to be there: of a file its contents after fsync() of the file, of a folder its names after
fsync() of the folder. Of what came later any part may be there: writes and names in any choice, a file's size before
its bytes, half a write. Renaming is one step: of both names or of none.
"""

import dataclasses


@dataclasses.dataclass
class File:
    durable: bytes = b""
    pending: list = dataclasses.field(default_factory=list)  # (offset, bytes), or (size, None)

    def contents(self, choose):
        data = bytearray(self.durable)
        for place, written in self.pending:
            kept = choose.of_file(written)
            if kept is None:
                continue
            if written is None:
                data = data[:place].ljust(place, b"\0")
            else:
                data[len(data):] = bytes(max(0, place - len(data)))
                data[place:place + len(kept)] = kept
        return bytes(data)

    def sync(self):
        self.durable, self.pending = self.contents(All()), []


@dataclasses.dataclass
class Folder:
    names: dict = dataclasses.field(default_factory=dict)  # name: File or Folder
    durable: dict = dataclasses.field(default_factory=dict)
    pending: list = dataclasses.field(default_factory=list)  # {name: File, Folder or None}

    def change(self, changes):
        self.pending.append(changes)
        for name, value in changes.items():
            if value is None:
                self.names.pop(name, None)
            else:
                self.names[name] = value

    def contents(self, choose):
        names = dict(self.durable)
        for changes in self.pending:
            if choose.of_folder():
                names.update(changes)
        return {name: value for name, value in names.items() if value is not None}

    def sync(self):
        self.durable, self.pending = dict(self.names), []


class All:
    """Everything came to the disk."""

    def of_file(self, written):
        return b"" if written is None else written

    def of_folder(self):
        return True


class Nothing(All):
    """Nothing did that was not synced."""

    def of_file(self, _written):
        return None

    def of_folder(self):
        return False


class Names(All):
    """Names and sizes did, and no bytes: what ext4 was known for."""

    def of_file(self, written):
        return b"" if written is None else bytes(len(written))


class Some(All):
    """Any choice."""

    def __init__(self, random, names, data):
        self.random, self.names, self.data = random, names, data

    def of_file(self, written):
        if self.random.random() >= self.data:
            return None
        if written and self.random.random() < 0.2:
            return written[:self.random.randrange(len(written))]
        return written if written is not None else b""

    def of_folder(self):
        return self.random.random() < self.names


class Disk:
    def __init__(self, root):
        """What lies in the folder is durable."""
        self.objects = {}
        self.root = self.read(root)

    def read(self, path):
        one = File(path.read_bytes()) if path.is_file() else Folder()
        self.objects[str(path.stat().st_ino)] = one
        if isinstance(one, Folder):
            one.names = {child.name: self.read(child) for child in path.iterdir()}
            one.sync()
        return one

    def apply(self, call):
        """A call of the journal."""
        if call.error == 0:
            getattr(self, call.name, self.nothing)(*call.details)

    def nothing(self, *_):
        """Calls that change nothing: open, close, pread, and what the program says."""

    def create(self, inode, folder, name):
        self.objects[inode] = File()
        self.objects[folder].change({name: self.objects[inode]})

    def mkdir(self, inode, folder, name):
        self.objects[inode] = Folder()
        self.objects[folder].change({name: self.objects[inode]})

    def pwrite(self, inode, offset, data=""):
        self.objects[inode].pending.append((int(offset), bytes.fromhex(data)))

    write = pwrite

    def fallocate(self, inode, size):
        self.objects[inode].pending.append((int(size), None))

    ftruncate = fallocate

    def fsync(self, inode):
        self.objects[inode].sync()

    fdatasync = fsync

    def rename(self, old_folder, old, new_folder, new, flags="0"):
        assert old_folder == new_folder, "between folders it would be two steps"
        folder = self.objects[old_folder]
        exchanged = folder.names[new] if int(flags) == 2 else None
        folder.change({old: exchanged, new: folder.names[old]})

    renameat2 = rename

    def unlink(self, folder, name):
        self.objects[folder].change({name: None})

    rmdir = unlink

    def after_power_loss(self, choose):
        """Contents of files by path, of folders None."""
        found = {}

        def walk(folder, path):
            for name, one in folder.contents(choose).items():
                if isinstance(one, File):
                    found[f"{path}{name}"] = one.contents(choose)
                else:
                    found[f"{path}{name}/"] = None
                    walk(one, f"{path}{name}/")

        walk(self.root, "")
        return found

    def now(self):
        """What programs see."""
        found = {}

        def walk(folder, path):
            for name, one in folder.names.items():
                if isinstance(one, File):
                    found[f"{path}{name}"] = one.contents(All())
                else:
                    found[f"{path}{name}/"] = None
                    walk(one, f"{path}{name}/")

        walk(self.root, "")
        return found


def contents_of(root):
    """The same of a folder on a real disk."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        found[name + "/" if path.is_dir() else name] = None if path.is_dir() else path.read_bytes()
    return found


def write_contents(root, contents):
    for name, data in contents.items():
        if data is None:
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
