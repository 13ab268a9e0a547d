// The keys of `train:`.
#include <cmath>

#include "launch/config/run_config.h"

namespace carillon {

int64_t TrainSection::warmup(int64_t steps) const {
  return warmup_ratio ? static_cast<int64_t>(std::ceil(*warmup_ratio * static_cast<double>(steps))) : warmup_steps;
}

void declare_train(Schema& schema, TrainSection& train) {
  schema.section("train",
                 "How the weights move. A step is micro_batch_size · data · gradient_accumulation_steps "
                 "sequences; its loss is the mean over all their target tokens.");
  schema.integer("train.max_steps", train.max_steps, "Steps of the whole run; this or train.epochs.")
      .at_least(1)
      .at_most(static_cast<double>(kMostSteps))
      .may_change()
      .aliases({"num_steps", "steps", "total_steps", "max_iters", "train_iters", "iterations"});
  schema.number("train.epochs", train.epochs, "Passes over the data instead: ceil(epochs · sequences / step) steps.")
      .above(0)
      .aliases({"num_epochs", "num_train_epochs", "max_epochs"});
  schema
      .integer("train.micro_batch_size", train.micro_batch_size,
               "Sequences at a time on each data-parallel rank. Activation memory grows with it.")
      .at_least(1)
      .at_most(kMostSequences)
      .aliases({"batch_size", "per_device_train_batch_size", "train_micro_batch_size_per_gpu", "device_batch_size"});
  schema
      .integer("train.gradient_accumulation_steps", train.gradient_accumulation_steps,
               "Micro-batches a step: a larger batch for time instead of memory.")
      .at_least(1)
      .at_most(kMostSequences)
      .aliases({"accumulation_steps", "grad_accum", "accumulate_grad_batches", "gradient_accumulation", "accum_iter"});
  schema.choice("train.optimizer", train.optimizer, {{"adamw", "adamw"}}, "Decoupled decay, as PyTorch's AdamW.")
      .aliases({"optim", "optimizer_type"});
  schema.number("train.learning_rate", train.learning_rate, "Its peak, before the schedule's factor.")
      .at_least(0)
      .aliases({"lr", "max_lr", "peak_lr"});
  schema
      .choice("train.lr_scheduler", train.lr_scheduler,
              {{"constant", ScheduleKind::kConstant},
               {"linear", ScheduleKind::kLinear},
               {"cosine", ScheduleKind::kCosine},
               {"wsd", ScheduleKind::kWarmupStableDecay},
               {"one_cycle", ScheduleKind::kOneCycle}},
              "The learning rate's course after warm-up; formulas in model/schedule.h.")
      .aliases({"lr_scheduler_type", "scheduler", "lr_decay_style", "schedule"});
  schema.integer("train.warmup_steps", train.warmup_steps, "Steps of linear growth from learning_rate/W.")
      .at_least(0)
      .at_most(static_cast<double>(kMostSteps))
      .aliases({"lr_warmup_steps", "warmup_iters", "warmup", "num_warmup_steps"});
  schema.number("train.warmup_ratio", train.warmup_ratio, "The same as a share of all steps, rounded up.")
      .at_least(0)
      .at_most(1)
      .aliases({"warmup_fraction", "lr_warmup_fraction"});
  schema.number("train.min_lr_ratio", train.min_lr_ratio, "Where linear, cosine and wsd end, times learning_rate.")
      .at_least(0)
      .at_most(1)
      .aliases({"min_lr", "min_lr_rate"});
  schema.number("train.decay_ratio", train.decay_ratio, "wsd: the share of all steps at the end that decays.")
      .at_least(0)
      .at_most(1)
      .aliases({"lr_wsd_decay", "decay_fraction"});
  schema
      .number("train.weight_decay", train.adamw.weight_decay,
              "On matrices only, embeddings included; norms and biases never.")
      .at_least(0)
      .aliases({"wd"});
  schema.number("train.adam_beta1", train.adamw.beta1, "Decay of the first moment.")
      .at_least(0)
      .below(1)
      .aliases({"beta1"});
  schema.number("train.adam_beta2", train.adamw.beta2, "Decay of the second moment.")
      .at_least(0)
      .below(1)
      .aliases({"beta2"});
  schema.number("train.adam_epsilon", train.adamw.epsilon, "Added to the root of the second moment.")
      .at_least(0)
      .aliases({"eps", "adam_eps", "epsilon"});
  schema
      .number("train.max_grad_norm", train.adamw.max_grad_norm,
              "Gradients are scaled down to this global L2 norm; null: off.")
      .above(0)
      .aliases({"grad_clip", "clip_grad", "gradient_clipping", "clip_grad_norm", "gradient_clip_val", "max_norm"});
  schema
      .choice("train.recompute", train.recompute,
              {{"none", Recompute::kNone}, {"selective", Recompute::kSelective}, {"full", Recompute::kFull}},
              "What the backward pass computes again. none: nothing, most memory. selective: all but attention. full: "
              "whole blocks, least memory, a third more time.")
      .aliases(
          {"gradient_checkpointing", "activation_checkpointing", "recompute_granularity", "checkpoint_activations"});
  schema
      .integer(
          "train.mlp_tile", train.mlp_tile,
          "Rows of a rank's sequence the MLP works on at a time (8k): its working memory is then theirs alone. Sums "
          "for its weights' gradients are rounded in another order; from some thousand rows on no slower.")
      .at_least(1)
      .default_is("all rows")
      .aliases({"tiled_mlp", "mlp_chunk_size", "mlp_tile_size", "num_shards"});
  schema
      .choice("train.offload", train.offload,
              {{"none", Offload::kNone},
               {"checkpoints", Offload::kCheckpoints},
               {"optimizer", Offload::kOptimizer},
               {"all", Offload::kAll}},
              "What a device keeps in host memory. checkpoints: what recompute selective or full keep, hidden behind "
              "long sequences. optimizer: master weights and moments, 24 bytes a parameter over the link a step. all: "
              "both. The result is the same bits.")
      .aliases({"cpu_offload", "offload_optimizer", "activation_offloading", "offload_activations", "cpu_offloading",
                "activation_cpu_offload"});
  schema.integer("train.seed", train.seed, "Of weights and order; the same on every layout.")
      .at_least(0)
      .aliases({"random_seed", "data_seed"});
  schema
      .choice("train.loss", train.loss,
              {{"cross_entropy", TrainingLoss::kCrossEntropy}, {"longce", TrainingLoss::kLongCrossEntropy}},
              "longce (2410.23771): a token counts by how much more likely the model finds it with all of its document "
              "before it than with the last train.longce.context tokens only. Costs a forward pass more, and one over "
              "context + stride tokens for each stride of them.")
      .aliases({"loss_function", "loss_type", "longce"});
  schema.section("train.longce", "What train.loss longce compares with, and by how much.");
  schema
      .integer("train.longce.context", train.long_loss.context,
               "Tokens of the short context, at least; those of a document's beginning count 1.")
      .at_least(1)
      .at_most(kMostTokens)
      .aliases({"trunc_len", "short_context"});
  schema
      .integer("train.longce.stride", train.long_loss.stride,
               "So many tokens share a short context: the shorter, the closer to its length and the dearer.")
      .at_least(1)
      .at_most(kMostTokens)
      .aliases({"longce_stride"});
  schema.number("train.longce.largest_weight", train.long_loss.largest_weight, "No token counts more than this.")
      .at_least(1)
      .at_most(1e6)
      .aliases({"longce_gamma", "max_weight"});
  schema.section("train.spike",
                 "A loss that jumps: more than factor times the median of the last window losses. Off unless factor or "
                 "action is given. Five spikes in a row end the run with 76.");
  schema.number("train.spike.factor", train.spike.factor, "So many times the median is a spike.")
      .above(1)
      .may_change()
      .default_is("off; 3 with an action")
      .aliases({"spike_factor", "loss_spike_threshold"});
  schema
      .integer("train.spike.window", train.spike.window,
               "Losses the median is of; none is judged before half of them stand.")
      .at_least(2)
      .at_most(100000)
      .may_change();
  schema
      .choice("train.spike.action", train.spike.action,
              {{"skip", SpikeAction::kSkip}, {"rollback", SpikeAction::kRollback}, {"stop", SpikeAction::kStop}},
              "skip: no update in this step. rollback: back to the newest checkpoint, and on with the sequences after "
              "the spike. stop: end with 76; the checkpoints stand.")
      .may_change()
      .default_is("off; skip with a factor");
  schema.section("train.early_stopping",
                 "Ends the run, with 0, when evaluations stop getting better by checkpoint.best.metric, "
                 "validation.loss where none is given.");
  schema
      .integer("train.early_stopping.patience", train.early_stopping.patience,
               "So many evaluations in a row without a gain are enough.")
      .at_least(1)
      .at_most(1e6)
      .may_change()
      .default_is("off")
      .aliases({"early_stopping_patience", "early_stop_patience"});
  schema
      .number("train.early_stopping.min_delta", train.early_stopping.min_delta,
              "A gain is more than this over the last gain.")
      .at_least(0)
      .may_change()
      .aliases({"early_stopping_threshold", "early_stopping_min_delta"});
}

}  // namespace carillon
