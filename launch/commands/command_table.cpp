#include "launch/commands/commands.h"

namespace carillon {

const std::vector<Command>& command_table() {
  static const std::vector<Command> table = {
      {"train", "train CONFIG.yaml [key=value…]", "train from scratch or fine-tune; resumes by itself",
       "Alone, under mpirun -n N and under srun the same command. A folder that holds a run goes on with it.",
       "mpirun -n 2 carillon train launch/configs/posgen_quickstart.yaml train.max_steps=400", run_train, help_train,
       true},
      {"score", "score model=M input=F output=F [rope.*=…] [parallel.*=…] [runtime.*=…]",
       "log-probability of every token of every document",
       "Documents are JSON lines with `tokens` or `text`; the output has one line for each, in order, in nats.",
       "carillon score model=runs/quickstart/run input=test.jsonl output=scores.jsonl", run_score, help_score},
      {"import", "import SOURCE OUT.h5 [overwrite=true]", "Hugging Face folder to one model file",
       "Keeps every weight's type and bytes, and the tokenizer's files; the file opens in h5py and h5dump. Tensors "
       "that "
       "are missing or misshapen, and weights that are not finite, are refused.",
       "carillon import SmolLM2-135M/ smol.h5", run_import, help_import},
      {"export", "export MODEL OUT [format=hf] [overwrite=true]", "a model, checkpoint or run as a Hugging Face folder",
       "Loads in transformers without a patch: YaRN, NTK-by-parts and everything with resonance are written as "
       "longrope "
       "factors, which hold any frequencies exactly.",
       "carillon export runs/quickstart/run exported/", run_export, help_export},
      {"inspect", "inspect FILE [--json]", "what is in a model, checkpoint or token file, every hash verified",
       "Exit code 65 names the file and tensor that fail.", "carillon inspect runs/quickstart/run --json", run_inspect},
      {"rope", "rope [rope.*=…] [length=N] [--json] | rope search CONFIG.yaml [key=value…]",
       "the rotary frequency table of a setting; divisors found for a model",
       "Wavelengths before and after rounding, the critical dimension, the feature gap beyond the trained length, what "
       "the scaling laws say of the base; svg=FILE draws it. `rope search` finds longrope's divisors for a model by "
       "its "
       "perplexity on long documents (2402.13753); begun again it goes on.",
       "carillon rope rope.type=yarn rope.resonance=true rope.factor=4 rope.original_max_position_embeddings=4096",
       run_rope, help_rope, true},
      {"posgen", "posgen OUT.jsonl task=… count=… length=… seed=…", "PosGen sequences",
       "Synthetic tasks whose answer depends on positions (Wang et al., 2024).",
       "carillon posgen train.jsonl task=recursive count=1000 length=64 seed=1", run_posgen, help_posgen},
      {"tokenize", "tokenize FILES… tokenizer=T output=OUT.h5", "text or JSON lines to a token file",
       "Train on the token file wherever a data path is taken.",
       "carillon tokenize book.txt tokenizer=SmolLM2-135M/ output=book.h5", run_tokenize, help_tokenize},
      {"eval", "eval [CONFIG.yaml] model=M length=N task={…} [key=value…]", "one evaluation: model, task, length",
       "Prints one JSON object; many evaluations are a sweep.",
       "carillon eval model=runs/quickstart/run length=128 task='{task: posgen, count: 20, seed: 1}'", run_eval,
       help_eval},
      {"sweep", "sweep CONFIG.yaml [key=value…]", "checkpoints × lengths × rope settings × tasks",
       "Started again it does what is missing; several processes on one output share the points. Leaves evals.jsonl, "
       "table.csv, lm_eval.json and report.html.",
       "mpirun -n 2 carillon sweep launch/configs/sweep_posgen.yaml", run_sweep, help_sweep, true},
      {"report", "report RESULTS OUT.html [overwrite=true]", "one self-contained page of results",
       "RESULTS is the folder of a sweep or a run: training curves, metrics by length and position, heat maps, "
       "rotations.",
       "carillon report runs/quickstart/run run.html", run_report, help_report},
      {"watch", "watch RUN [key=value…]", "a run in the terminal while it goes on",
       "Loss, speed, memory by rank, sources, the last evaluations and the time left, drawn again as records come; the "
       "run's report.html is rewritten meanwhile. Ends when the run ends.",
       "carillon watch runs/quickstart/run", run_watch, help_watch},
      {"slurm", "slurm CONFIG.yaml [slurm.*=…] [key=value…]", "the sbatch script for a run or a sweep",
       "Before the job's limit a checkpoint is written and the job queued again; a sweep's array shares its points.",
       "carillon slurm launch/configs/finetune_8k_cpu.yaml slurm.nodes=4 slurm.time=12h > train.sbatch", run_slurm,
       help_slurm},
      {"info", "info [runtime.*=…] [--json]", "build, devices, libraries, instruction sets, MPI, threads",
       "runtime.device=cuda also says how much memory each CUDA device has left, which takes a context on it, and is "
       "an "
       "error where there is none.",
       "carillon info", run_info, help_info},
      {"verify", "verify CONFIG.yaml [verify.*=…] [key=value…]", "proves that the layout changes nothing",
       "The same steps on this layout and on one rank, tensor by tensor; exit code 70 when they differ.",
       "mpirun -n 2 carillon verify launch/configs/posgen_quickstart.yaml", run_verify, help_verify},
      {"generate", "generate model=M prompt=\"…\" | tokens=[…] | input=F output=F [key=value…]",
       "greedy or sampled continuation",
       "The cache of keys and values is sharded like the sequence: a prompt may be longer than one rank holds.",
       "carillon generate model=SmolLM2-135M/ prompt=\"In the beginning\" max_new_tokens=32", run_generate,
       help_generate},
      {"bench", "bench [bench.*=…] [runtime.*=…] [--json]",
       "measures this machine: matrix products, attention, memory, links, disk",
       "The figures `carillon plan` computes with. Under mpirun all ranks measure at once, as they will work: start as "
       "many as a run will have on a node.",
       "mpirun -n 2 carillon bench", run_bench, help_bench},
      {"plan", "plan CONFIG.yaml [plan.*=…] [key=value…] [--json]", "memory and time of a run before it is started",
       "Exact memory of every rank by role, the time of a step by what it is spent on, limits that are broken with the "
       "nearest values that hold, the longest sequence that fits, the five best layouts with their launch lines. Any "
       "number of ranks on one process; exit code 64 when the run cannot be.",
       "carillon plan launch/configs/posgen_quickstart.yaml plan.profile=h100-sxm plan.ranks=2", run_plan, help_plan},
  };
  return table;
}

}  // namespace carillon
