#include "launch/commands/commands.h"

namespace carillon {

const std::vector<Command>& command_table() {
  static const std::vector<Command> table = {
      {"train", "train CONFIG.yaml [key=value…]", "train from scratch or fine-tune; resumes automatically",
       "The same command works alone, under mpirun -n N and under srun. If the output folder contains a run, training "
       "resumes.",
       "mpirun -n 2 carillon train launch/configs/posgen_quickstart.yaml train.max_steps=400", run_train, help_train,
       true},
      {"score", "score model=M input=F output=F [rope.*=…] [parallel.*=…] [runtime.*=…]",
       "log-probability of every token of every document",
       "Documents are JSON lines with `tokens`, `text` or `messages`. The output has one line per document, in the "
       "same order, in nats.",
       "carillon score model=runs/quickstart/run input=runs/quickstart/test.jsonl output=scores.jsonl", run_score,
       help_score},
      {"import", "import SOURCE OUT.h5 [overwrite=true]", "convert a Hugging Face folder to one model file",
       "Keeps the type and bytes of every weight, and the tokenizer's files. The file can be opened with h5py and "
       "h5dump. Missing tensors, wrong shapes and non-finite weights are refused.",
       "carillon import SmolLM2-135M/ smol.h5", run_import, help_import},
      {"export", "export MODEL OUT [format=hf|peft|gguf] [overwrite=true]",
       "write a model, checkpoint or run for transformers, PEFT or llama.cpp",
       "Unmodified transformers loads a Hugging Face folder: YaRN, NTK-by-parts and everything with resonance are "
       "written as "
       "longrope factors, which represent any frequencies exactly.",
       "carillon export runs/quickstart/run exported/", run_export, help_export},
      {"inspect", "inspect FILE [--json]",
       "list the contents of a model, checkpoint or token file and verify every hash",
       "If a hash differs, the message names the file and the tensor, and the exit code is 65.",
       "carillon inspect runs/quickstart/run --json", run_inspect},
      {"rope", "rope [rope.*=…] [length=N] [--json] | rope search CONFIG.yaml [key=value…]",
       "print the rotary frequencies of a setting, or search divisors for a model",
       "Prints wavelengths before and after rounding, the critical dimension, the feature gap beyond the trained "
       "length, and what scaling laws predict for the base; svg=FILE draws a diagram. `rope search` searches "
       "longrope's divisors for a model by its perplexity on long documents (2402.13753); started again, it continues.",
       "carillon rope rope.type=yarn rope.resonance=true rope.factor=4 rope.original_max_position_embeddings=4096",
       run_rope, help_rope, true},
      {"posgen", "posgen OUT.jsonl task=… count=… length=… seed=…", "generate PosGen sequences",
       "Synthetic tasks whose answer depends on positions (Wang et al., 2024).",
       "carillon posgen train.jsonl task=recursive count=1000 length=64 seed=1", run_posgen, help_posgen},
      {"tokenize", "tokenize FILES…|CONFIG.yaml tokenizer=T output=OUT.h5",
       "convert text or JSON lines to a token file",
       "Of a configuration, its data.train is converted, with its tokenizer and chat template. The token file can be "
       "used wherever a data path is expected.",
       "carillon tokenize book.txt tokenizer=SmolLM2-135M/ output=book.h5", run_tokenize, help_tokenize},
      {"eval", "eval [CONFIG.yaml] model=M length=N task={…} [key=value…]", "run one evaluation: model, task, length",
       "Prints one JSON object. For many evaluations, use sweep.",
       "carillon eval model=runs/quickstart/run length=128 task='{task: posgen, count: 20, seed: 1}'", run_eval,
       help_eval},
      {"sweep", "sweep CONFIG.yaml [key=value…]", "evaluate checkpoints × lengths × rope settings × tasks",
       "Started again, it computes only what is missing. Several processes with the same output share the points. "
       "Writes evals.jsonl, table.csv, lm_eval.json and report.html.",
       "mpirun -n 2 carillon sweep launch/configs/sweep_posgen.yaml", run_sweep, help_sweep, true},
      {"report", "report RESULTS OUT.html [overwrite=true]", "write one self-contained page of results",
       "RESULTS is the folder of a sweep or a run: training curves, metrics by length and position, heat maps, "
       "rotations.",
       "carillon report runs/quickstart/run run.html", run_report, help_report},
      {"watch", "watch RUN [key=value…]", "follow a run in the terminal",
       "Shows loss, speed, memory by rank, data sources, the last evaluations and the time left, and updates the run's "
       "report.html. Ends when the run ends.",
       "carillon watch runs/quickstart/run", run_watch, help_watch},
      {"slurm", "slurm CONFIG.yaml [slurm.*=…] [key=value…]", "print the sbatch script for a run or a sweep",
       "Before the job's time limit, a checkpoint is written and the job is requeued. The tasks of a sweep's array "
       "share its points.",
       "carillon slurm launch/configs/finetune_8k_cpu.yaml slurm.nodes=4 slurm.time=12h > train.sbatch", run_slurm,
       help_slurm},
      {"info", "info [runtime.*=…] [--json]", "print build, devices, libraries, instruction sets, MPI and threads",
       "runtime.device=cuda also prints the free memory of each CUDA device, which creates a context on it, and fails "
       "if there is no device.",
       "carillon info", run_info, help_info},
      {"verify", "verify CONFIG.yaml [verify.*=…] [key=value…] [--json]",
       "prove that the layout does not change the result",
       "Runs the same steps on this layout and on one rank and compares every tensor; exit code 70 if they differ.",
       "mpirun -n 2 carillon verify launch/configs/posgen_quickstart.yaml", run_verify, help_verify},
      {"generate", "generate model=M prompt=\"…\" | tokens=[…] | input=F output=F [key=value…]",
       "continue prompts, greedily or by sampling",
       "The key/value cache is sharded like the sequence, so a prompt may be longer than one rank can hold.",
       "carillon generate model=SmolLM2-135M/ prompt=\"In the beginning\" max_new_tokens=32", run_generate,
       help_generate},
      {"bench", "bench [bench.*=…] [runtime.*=…] [--json]",
       "measure this machine: matrix products, attention, memory, links, disk",
       "Produces the figures that `carillon plan` uses. Under mpirun all ranks measure at the same time, as they would "
       "run: start as many ranks as a run has on a node.",
       "mpirun -n 2 carillon bench", run_bench, help_bench},
      {"plan", "plan CONFIG.yaml [plan.*=…] [key=value…] [--json]", "predict the memory and time of a run",
       "Prints the exact memory of every rank by role, the time of a step by activity, violated limits with the "
       "nearest valid values, the longest sequence that fits, and the five best layouts with their launch commands. "
       "One process plans for any number of ranks. Exit code 64 if the run is impossible.",
       "carillon plan launch/configs/posgen_quickstart.yaml plan.profile=h100-sxm plan.ranks=2", run_plan, help_plan},
  };
  return table;
}

}  // namespace carillon
