"""Checks that the program finds the device, and reports what it is and how it is connected."""

import json

from children import Failed, run_child

NAME, TITLE, LEAST, MOST = "facts", "the machine", 5, 40
QUERY = ["name", "memory.total", "memory.used", "driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit",
         "pcie.link.gen.max", "pcie.link.width.max", "ecc.mode.current", "compute_mode"]


def run(context):
    machine, figures = context.machine, context.record.figures
    if not machine.rehearsal:
        added, without_cudnn = machine.find_libraries()
        figures.update(library_folders_added=added, cudnn_lacks=without_cudnn)
        context.check("libraries", True, f"found{', in ' + ', '.join(added) if added else ''}"
                      f"{'; without cuDNN, for want of ' + ', '.join(without_cudnn) if without_cudnn else ''}")
    info = json.loads(machine.call("info", "--json", seconds=context.left()).output)
    figures["info"] = info
    machine.read_devices(info)
    context.check("device", True, f"{machine.devices} × {machine.device}, compute capability {machine.capability}, "
                                  f"{machine.memory_bytes >> 20} MiB")
    read_driver(context)


def read_driver(context):
    machine, figures = context.machine, context.record.figures
    tool = machine.tool("nvidia-smi")
    if tool is None:
        return context.skip("nvidia-smi", "not installed")
    done = run_child([tool, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"], machine.environment, 20)
    if done.code != 0:
        return context.skip("nvidia-smi", f"does not answer: {done.text().strip()[:200]}")
    rows = [[cell.strip() for cell in line.split(",")] for line in done.output.strip().splitlines()]
    if any(len(row) != len(QUERY) for row in rows):
        raise Failed("nvidia-smi answers another number of fields than it was asked for", done.text())
    figures["nvidia_smi"] = [dict(zip(QUERY, row)) for row in rows]
    figures["topology"] = run_child([tool, "topo", "-m"], machine.environment, 20).output
    context.check("nvidia-smi", True, f"driver {figures['nvidia_smi'][0]['driver_version']}, "
                                      f"{figures['nvidia_smi'][0]['memory.used']} in use before the start")
    return None
