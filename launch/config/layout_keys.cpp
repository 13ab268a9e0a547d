// The keys of `parallel`, `runtime`, `checkpoint` and `eval`: a run's layout and operation.
#include "launch/config/rope_settings.h"
#include "launch/config/run_config.h"

namespace carillon {
namespace {

constexpr double kMostThreads = 4096;  // some systems refuse more in a process, and more is never faster

}  // namespace

void declare_parallel(Schema& schema, ParallelSection& parallel) {
  schema.section("parallel",
                 "How the work is split over ranks: data · context · tensor. The result does not depend on it.");
  schema
      .integer("parallel.tensor", parallel.tensor,
               "Number of ranks that share each matrix. Divides weights, activations and optimizer state. Exchanges "
               "the residual four times per block, so keep it within a machine.")
      .at_least(1)
      .at_most(static_cast<double>(kMostRanks))
      .may_change()
      .aliases({"tensor_model_parallel_size", "tensor_parallel_size", "tp", "tp_size", "tensor_parallel"});
  schema
      .integer("parallel.context", parallel.context,
               "Number of ranks that share each sequence, in a ring that passes keys and values on while it computes. "
               "Divides activations. Worth it from a few thousand tokens per rank.")
      .at_least(1)
      .at_most(static_cast<double>(kMostRanks))
      .may_change()
      .aliases({"context_parallel_size", "cp", "cp_size", "sequence_parallel_size", "ring_size", "context_parallel"});
  schema
      .integer_or("parallel.data", parallel.data, "auto",
                  "Number of groups of ranks that process different sequences. auto: all ranks / (tensor · context).")
      .at_least(1)
      .at_most(static_cast<double>(kMostRanks))
      .may_change()
      .aliases({"data_parallel_size", "dp", "dp_size", "data_parallel"});
  schema
      .integer("parallel.zero", parallel.zero,
               "What is sharded over data · context ranks. 0: nothing. 1: optimizer state. 2: gradients too, at the "
               "cost of one more reduction per micro-step.")
      .at_least(0)
      .at_most(2)
      .may_change()
      .aliases({"zero_stage", "zero_optimization", "use_distributed_optimizer"});
  schema
      .choice("parallel.layout", parallel.layout,
              {{"zigzag", LayoutKind::kZigzag}, {"contiguous", LayoutKind::kContiguous}},
              "Which tokens a context rank holds. zigzag: an early and a late piece, which balances causal attention.")
      .may_change()
      .aliases({"cp_layout", "context_layout"});
  schema
      .choice("parallel.ring", parallel.ring,
              {{"auto", RingKind::kAuto}, {"flat", RingKind::kFlat}, {"two_level", RingKind::kTwoLevel}},
              "two_level: rings inside nodes, while blocks travel between nodes on all network adapters at once. auto: "
              "two_level if a ring is spread evenly over several nodes.")
      .may_change()
      .aliases({"double_ring", "ring_kind"});
  schema
      .integer_or(
          "parallel.ring_inner", parallel.ring_inner, "auto",
          "Number of context ranks in an inner ring of two_level; divides parallel.context. auto: those of one node.")
      .at_least(1)
      .at_most(static_cast<double>(kMostRanks))
      .may_change()
      .aliases({"inner_ring_size", "window_size"});
}

void declare_runtime(Schema& schema, RuntimeSection& runtime) {
  schema.section("runtime", "Device, number type and threads.");
  schema
      .choice("runtime.device", runtime.device,
              {{"auto", "auto"}, {"cpu", "cpu"}, {"reference", "reference"}, {"cuda", "cuda"}},
              "reference: plain loops that define every operation; slow.")
      .may_change()
      .aliases({"backend", "accelerator"});
  schema
      .choice("runtime.dtype", runtime.dtype,
              {{"float64", DType::kFloat64}, {"float32", DType::kFloat32}, {"bfloat16", DType::kBFloat16}},
              "Type of weights and activations in computation. Master weights and moments are float32, or float64 with "
              "float64.")
      .may_change()
      .aliases({"precision", "torch_dtype", "mixed_precision", "bf16"});
  schema
      .integer_or("runtime.threads", runtime.threads, "auto",
                  "Threads per rank. auto: OMP_NUM_THREADS, or else the cores this rank may use.")
      .at_least(1)
      .at_most(kMostThreads)
      .may_change()
      .aliases({"num_threads", "omp_num_threads", "nthreads"});
  schema
      .choice("runtime.attention", runtime.attention, {{"auto", "auto"}, {"native", "native"}, {"cudnn", "cudnn"}},
              "Attention kernels. cudnn: cuDNN's for whole blocks, in both passes; bfloat16 on sm_90 and later, "
              "compared with the native kernels at start-up. auto: cudnn in training if it is available and agrees, "
              "otherwise native.",
              {{"own", "native"}})
      .may_change()
      .aliases({"attn_implementation", "flash_attention", "attention_backend"});
  schema
      .choice("runtime.isa", runtime.isa,
              {{"auto", "auto"},
               {"amx", "amx"},
               {"avx512_bf16", "avx512_bf16"},
               {"avx512", "avx512"},
               {"avx2", "avx2"},
               {"baseline", "baseline"}},
              "Instruction set of the CPU kernels. auto: the best this processor supports, or CARILLON_ISA.")
      .may_change()
      .aliases({"instruction_set", "cpu_isa"});
  schema
      .boolean("runtime.tune", runtime.tune,
               "On CUDA devices, times up to eight of cuBLASLt's algorithms for each product's shape when it first "
               "comes, and keeps the fastest. The last bits then differ from run to run.")
      .may_change()
      .aliases({"autotune", "max_autotune", "cudnn_benchmark"});
  schema
      .duration("runtime.patience", runtime.patience,
                "How long a rank may make no progress (stopped, spinning, lost) before the job ends with exit code 75. "
                "0: no limit. A slow rank does make progress.")
      .at_least(0)
      .may_change()
      .aliases({"timeout", "nccl_timeout", "ddp_timeout", "distributed_timeout", "watchdog_timeout"});
  schema
      .text("runtime.trace", runtime.trace,
            "File for a trace of every operation, hop and wait by rank, for Perfetto or chrome://tracing. About 100 kB "
            "per step.")
      .may_change()
      .aliases({"profiler", "trace_path", "profile_path"});
  schema
      .boolean("runtime.tensorboard", runtime.tensorboard,
               "Writes TensorBoard event files of steps and evaluations into the run's folder.")
      .may_change()
      .aliases({"use_tensorboard", "report_to", "tensorboard_dir"});
}

void declare_checkpoint(Schema& schema, CheckpointSection& checkpoint) {
  schema.section(
      "checkpoint",
      "What is saved, and when. Any layout can resume a checkpoint of any other. One is always written at the end.");
  schema.integer("checkpoint.every_steps", checkpoint.every_steps, "Steps between checkpoints; null: not by steps.")
      .at_least(1)
      .at_most(static_cast<double>(kMostSteps))
      .may_change()
      .aliases({"save_steps", "save_interval", "checkpoint_interval", "save_every"});
  schema
      .duration("checkpoint.every", checkpoint.every,
                "Time between checkpoints, if that comes first; null: not by time.")
      .above(0)
      .may_change()
      .aliases({"save_time", "save_minutes"});
  schema
      .integer("checkpoint.keep", checkpoint.keep,
               "Number of newest checkpoints to keep. The newest two valid ones are always kept.")
      .at_least(1)
      .at_most(static_cast<double>(kMostSteps))
      .may_change()
      .aliases({"save_total_limit", "keep_last", "max_checkpoints"});
  schema
      .text("checkpoint.resume", checkpoint.resume,
            "auto: resumes from the newest valid checkpoint in the output folder, if there is one. never: refuses a "
            "folder that contains checkpoints. Or the path of a checkpoint.")
      .may_change()
      .aliases({"resume_from_checkpoint", "load", "resume_from", "load_checkpoint"});
  schema
      .boolean("checkpoint.async", checkpoint.async,
               "Copies and writes periodic checkpoints while training continues. The last checkpoint is written "
               "synchronously.")
      .may_change()
      .aliases({"async_save", "async_checkpoint", "async_checkpointing"});
  schema.section("checkpoint.best", "Keeps the checkpoint with the best evaluation, in addition to the newest ones.");
  schema
      .text("checkpoint.best.metric", checkpoint.best_metric,
            "Metric that decides at every evaluation: TASK.METRIC, such as validation.loss (a perplexity task on "
            "data.validation) or passkey.accuracy, at the longest of eval.lengths and with the first of eval.rope. The "
            "file checkpoints/best names the checkpoint.")
      .may_change()
      .default_is("not set")
      .aliases({"metric_for_best_model", "load_best_model_at_end", "save_best", "monitor"});
}

void declare_eval(Schema& schema, EvalSection& eval) {
  schema.section("eval", "Evaluations during training.");
  const auto sizes = [&](const std::string& name, std::vector<int64_t>& target, const char* help) -> Key& {
    const auto set = [&schema, name, &target](const YamlNode& node) {
      const Key& key = *schema.find(name);
      if (node.kind != YamlNode::Kind::kSequence) key.refuse(node, "a list of integers such as [4k, 8k]");
      std::vector<int64_t> values;
      for (const YamlNode& item : node.items) values.push_back(detail::read_integer(key, item));
      target = std::move(values);
    };
    const auto get = [&target] { return target.empty() ? std::nullopt : std::optional(Json(target)); };
    return schema.custom(name, "list of integers", help, set, get);
  };
  const auto free = [&](const char* name, const char* type, Json& target, const char* help) -> Key& {
    return schema.custom(
        name, type, help, [&target](const YamlNode& node) { target = detail::free_json(node); },
        [&target] { return target.empty() ? std::nullopt : std::optional(target); });
  };
  schema.integer("eval.every_steps", eval.every_steps, "Steps between evaluations.")
      .at_least(1)
      .at_most(static_cast<double>(kMostSteps))
      .may_change()
      .aliases({"eval_steps", "eval_interval"});
  schema.duration("eval.every", eval.every, "Time between evaluations.").above(0).may_change();
  sizes("eval.at", eval.at, "Steps after which to evaluate.").at_least(1).may_change();
  schema.boolean("eval.at_end", eval.at_end, "Evaluate after the last step.").may_change();
  sizes("eval.lengths", eval.lengths, "Window lengths in tokens.").at_least(2).at_most(4294967296.0).may_change();
  schema
      .custom(
          "eval.rope", "mapping", "Named rope settings, each merged over the run's.",
          [&eval](const YamlNode& node) {
            eval.rope = node.kind == YamlNode::Kind::kNull ? Json::object() : read_rope_settings("eval.rope", node);
          },
          [&eval] { return eval.rope.empty() ? std::nullopt : std::optional(eval.rope); })
      .may_change();
  free("eval.tasks", "list", eval.tasks, "List of tasks.").may_change();
}

}  // namespace carillon
