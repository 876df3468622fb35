"""Processes, their cost, and medians."""
import contextlib, os, shutil, signal, statistics, subprocess, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RETEMPO = os.path.join(ROOT, "target/release/retempo")
PEER = os.path.join(ROOT, "target/release/retempo-bench")
SITE = os.path.join(ROOT, "bench/site-packages")
# Analyses end with the verdict's code, which is no failure here.
FINE = (0, 3, 4)


class Skip(Exception):
    """Something that cannot be measured on this machine."""


class Cost:
    def __init__(self, wall_s, usage, out):
        self.wall_s, self.cpu_s, self.rss_bytes, self.out = wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, out


def run(arguments, folder, env=None):
    """Runs a command to its end."""
    began = time.monotonic()
    with open(os.path.join(folder, "errors"), "ab") as errors:
        child = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=errors, env=env)
        out = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in FINE:
        tail = open(errors.name, errors="replace").read()[-400:]
        raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}: {tail}")
    return Cost(time.monotonic() - began, usage, out)


class Bench:
    def __init__(self, folder, rounds):
        self.folder, self.rounds, self.rows, self.children, self.granted = folder, rounds, [], [], {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, arguments, word, stream):
        """Starts a process that stays, and waits until it says a word; what it said until then."""
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: subprocess.PIPE}
        child = subprocess.Popen(arguments, cwd=self.folder, **pipes)
        self.children.append(child)
        said = ""
        for line in getattr(child, stream):
            said += line.decode()
            if word in said:
                return child, said
        raise RuntimeError(f"{arguments[0]} did not start: {said[-300:]}")

    def stop(self, child):
        self.children.remove(child)
        child.kill()
        child.wait()

    def nats(self, *extra):
        """A server of its own on a free port: its process, and host:port."""
        binary = os.environ.get("RETEMPO_NATS_SERVER") or shutil.which("nats-server") or os.path.join(ROOT, ".servers/bin/nats-server")
        child, said = self.start([binary, "-a", "127.0.0.1", "-p", "-1", *extra], "Server is ready", "stderr")
        return child, said.split("Listening for client connections on ")[1].split()[0]

    def compile(self, workload, name, *extra):
        """A schedule from a workload of bench/workloads, once."""
        path = self.path(name + ".parquet")
        if not os.path.exists(path):
            run([RETEMPO, "compile", os.path.join(ROOT, "bench/workloads", workload), "-o", path, *extra], self.folder)
        return path

    def replay(self, schedule, server, *extra, wrapper=()):
        """Replays into a fresh folder: cost, folder, manifest."""
        import json
        folder = self.path("run")
        shutil.rmtree(folder, ignore_errors=True)
        cost = run([*wrapper, RETEMPO, "replay", schedule, "-s", server, "-o", folder, "-q", *extra], self.folder)
        manifest = json.load(open(os.path.join(folder, "run.json")))
        return cost, folder, manifest

    def summary(self, folder):
        import json
        return json.loads(run([RETEMPO, "analyze", folder, "--json"], self.folder).out)

    def row(self, name, values, target, how, better="higher", unit="ratio", stretch=None):
        low, middle, high = min(values), statistics.median(values), max(values)
        self.rows.append({"name": name, "value": middle, "target": target, "stretch": stretch, "better": better, "spread": [low, high], "unit": unit, "how": how})

    def close(self):
        for child in list(self.children):
            self.stop(child)


def stolen_ticks():
    """Time in which the host of this machine ran something else though we were ready, all cores, in ticks (proc(5))."""
    return int(open("/proc/stat").readline().split()[8])


@contextlib.contextmanager
def awake():
    """No CPU sleeps deeply meanwhile, if that is granted, whoever runs: a limit of 0 µs on what waking one up may take (the kernel's PM QoS)."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            held.enter_context(open("/dev/cpu_dma_latency", "wb", 0)).write(bytes(4))
        yield


def fifo_granted(manifest):
    return manifest["granted"]["sched_fifo"]
