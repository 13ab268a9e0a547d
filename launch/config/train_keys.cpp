// The keys of `train:`.
#include <cmath>

#include "launch/config/run_config.h"

namespace carillon {

int64_t TrainSection::warmup(int64_t steps) const {
  return warmup_ratio ? static_cast<int64_t>(std::ceil(*warmup_ratio * static_cast<double>(steps))) : warmup_steps;
}

void declare_train(Schema& schema, TrainSection& train) {
  schema.section("train",
                 "Optimisation. A step takes micro_batch_size · data · gradient_accumulation_steps sequences; its loss "
                 "is the mean over all their target tokens.");
  schema.integer("train.max_steps", train.max_steps, "Number of steps of the whole run. Set this or train.epochs.")
      .at_least(1)
      .at_most(static_cast<double>(kMostSteps))
      .may_change()
      .aliases({"num_steps", "steps", "total_steps", "max_iters", "train_iters", "iterations"});
  schema
      .number("train.epochs", train.epochs,
              "Number of passes over the data, in place of max_steps: ceil(epochs · sequences / sequences of a step) "
              "steps.")
      .above(0)
      .aliases({"num_epochs", "num_train_epochs", "max_epochs"});
  schema
      .integer("train.micro_batch_size", train.micro_batch_size,
               "Sequences that each data-parallel rank processes at a time. Activation memory is proportional to it.")
      .at_least(1)
      .at_most(kMostSequences)
      .aliases({"batch_size", "per_device_train_batch_size", "train_micro_batch_size_per_gpu", "device_batch_size"});
  schema
      .integer("train.gradient_accumulation_steps", train.gradient_accumulation_steps,
               "Micro-batches per step. Increases the batch at the cost of time rather than memory.")
      .at_least(1)
      .at_most(kMostSequences)
      .aliases({"accumulation_steps", "grad_accum", "accumulate_grad_batches", "gradient_accumulation", "accum_iter"});
  schema
      .choice("train.optimizer", train.optimizer, {{"adamw", "adamw"}},
              "AdamW with decoupled weight decay, as in PyTorch.")
      .aliases({"optim", "optimizer_type"});
  schema.number("train.learning_rate", train.learning_rate, "Peak learning rate, before the schedule's factor.")
      .at_least(0)
      .aliases({"lr", "max_lr", "peak_lr"});
  schema
      .choice("train.lr_scheduler", train.lr_scheduler,
              {{"constant", ScheduleKind::kConstant},
               {"linear", ScheduleKind::kLinear},
               {"cosine", ScheduleKind::kCosine},
               {"wsd", ScheduleKind::kWarmupStableDecay},
               {"one_cycle", ScheduleKind::kOneCycle}},
              "Learning-rate schedule after warm-up; formulas in model/schedule.h.")
      .aliases({"lr_scheduler_type", "scheduler", "lr_decay_style", "schedule"});
  schema
      .integer("train.warmup_steps", train.warmup_steps,
               "Number of warm-up steps W, with linear growth from learning_rate/W.")
      .at_least(0)
      .at_most(static_cast<double>(kMostSteps))
      .aliases({"lr_warmup_steps", "warmup_iters", "warmup", "num_warmup_steps"});
  schema.number("train.warmup_ratio", train.warmup_ratio, "Warm-up as a fraction of all steps, rounded up.")
      .at_least(0)
      .at_most(1)
      .aliases({"warmup_fraction", "lr_warmup_fraction"});
  schema
      .number("train.min_lr_ratio", train.min_lr_ratio,
              "Final learning rate of linear, cosine and wsd, as a fraction of learning_rate.")
      .at_least(0)
      .at_most(1)
      .aliases({"min_lr", "min_lr_rate"});
  schema
      .number("train.decay_ratio", train.decay_ratio,
              "wsd: fraction of all steps, at the end, in which the learning rate decays.")
      .at_least(0)
      .at_most(1)
      .aliases({"lr_wsd_decay", "decay_fraction"});
  schema
      .number("train.weight_decay", train.adamw.weight_decay,
              "Weight decay. Applies to matrices, embeddings included, but not to norms and biases.")
      .at_least(0)
      .aliases({"wd"});
  schema.number("train.adam_beta1", train.adamw.beta1, "Decay rate of the first moment.")
      .at_least(0)
      .below(1)
      .aliases({"beta1"});
  schema.number("train.adam_beta2", train.adamw.beta2, "Decay rate of the second moment.")
      .at_least(0)
      .below(1)
      .aliases({"beta2"});
  schema.number("train.adam_epsilon", train.adamw.epsilon, "Added to the square root of the second moment.")
      .at_least(0)
      .aliases({"eps", "adam_eps", "epsilon"});
  schema
      .number("train.max_grad_norm", train.adamw.max_grad_norm,
              "Gradients are clipped to this global L2 norm; null: no clipping.")
      .above(0)
      .aliases({"grad_clip", "clip_grad", "gradient_clipping", "clip_grad_norm", "gradient_clip_val", "max_norm"});
  schema
      .choice("train.recompute", train.recompute,
              {{"none", Recompute::kNone}, {"selective", Recompute::kSelective}, {"full", Recompute::kFull}},
              "What the backward pass recomputes. none: nothing, uses the most memory. selective: everything except "
              "attention. full: whole blocks, uses the least memory and a third more time.")
      .aliases(
          {"gradient_checkpointing", "activation_checkpointing", "recompute_granularity", "checkpoint_activations"});
  schema
      .integer("train.mlp_tile", train.mlp_tile,
               "Number of rows of a rank's sequence that the MLP processes at a time, for example 8k. Its working "
               "memory then depends on this number, not on the sequence. Sums in its weight gradients are rounded in a "
               "different order. No slower from a few thousand rows on.")
      .at_least(1)
      .default_is("all rows")
      .aliases({"tiled_mlp", "mlp_chunk_size", "mlp_tile_size", "num_shards"});
  schema
      .choice("train.offload", train.offload,
              {{"none", Offload::kNone},
               {"checkpoints", Offload::kCheckpoints},
               {"optimizer", Offload::kOptimizer},
               {"all", Offload::kAll}},
              "What a device keeps in host memory. checkpoints: the activations that recompute selective or full "
              "store; with long sequences the copies are hidden by computation. optimizer: master weights and moments, "
              "24 bytes per parameter over the link in each step. all: both. The result is bitwise the same.")
      .aliases({"cpu_offload", "offload_optimizer", "activation_offloading", "offload_activations", "cpu_offloading",
                "activation_cpu_offload"});
  schema
      .integer("train.seed", train.seed,
               "Seed of the initial weights and of the data order. Gives the same result on every layout.")
      .at_least(0)
      .aliases({"random_seed", "data_seed"});
  schema
      .choice("train.loss", train.loss,
              {{"cross_entropy", TrainingLoss::kCrossEntropy}, {"longce", TrainingLoss::kLongCrossEntropy}},
              "longce (2410.23771): each token is weighted by how much more likely the model finds it given all "
              "preceding tokens of its document than given only the last train.longce.context tokens. Costs one more "
              "forward pass, plus one over context + stride tokens for every stride tokens.")
      .aliases({"loss_function", "loss_type", "longce"});
  schema.section("train.longce", "The short context of train.loss longce, and the bound on its weights.");
  schema
      .integer("train.longce.context", train.long_loss.context,
               "Minimum length of the short context, in tokens. Tokens at the beginning of a document have weight 1.")
      .at_least(1)
      .at_most(kMostTokens)
      .aliases({"trunc_len", "short_context"});
  schema
      .integer("train.longce.stride", train.long_loss.stride,
               "Number of tokens that share one short context. A smaller number keeps the context closer to its length "
               "and costs more time.")
      .at_least(1)
      .at_most(kMostTokens)
      .aliases({"longce_stride"});
  schema.number("train.longce.largest_weight", train.long_loss.largest_weight, "Upper bound of a token's weight.")
      .at_least(1)
      .at_most(1e6)
      .aliases({"longce_gamma", "max_weight"});
  schema.section("train.spike",
                 "Loss spikes: a loss of more than factor times the median of the last window losses. Off unless "
                 "factor or action is given. Five consecutive spikes end the run with exit code 76.");
  schema.number("train.spike.factor", train.spike.factor, "A loss above this many times the median is a spike.")
      .above(1)
      .may_change()
      .default_is("off; 3 with an action")
      .aliases({"spike_factor", "loss_spike_threshold"});
  schema
      .integer("train.spike.window", train.spike.window,
               "Number of losses in the median. Detection begins when half of them are available.")
      .at_least(2)
      .at_most(100000)
      .may_change();
  schema
      .choice("train.spike.action", train.spike.action,
              {{"skip", SpikeAction::kSkip}, {"rollback", SpikeAction::kRollback}, {"stop", SpikeAction::kStop}},
              "skip: makes no update in this step. rollback: loads the newest checkpoint and continues with the "
              "sequences after the spike. stop: ends the run with exit code 76 and keeps the checkpoints.")
      .may_change()
      .default_is("off; skip with a factor");
  schema.section("train.early_stopping",
                 "Ends the run with exit code 0 when evaluations no longer improve in checkpoint.best.metric, or in "
                 "validation.loss if none is given.");
  schema
      .integer("train.early_stopping.patience", train.early_stopping.patience,
               "Number of consecutive evaluations without improvement after which the run ends.")
      .at_least(1)
      .at_most(1e6)
      .may_change()
      .default_is("off")
      .aliases({"early_stopping_patience", "early_stop_patience"});
  schema
      .number("train.early_stopping.min_delta", train.early_stopping.min_delta,
              "Smallest change since the last improvement that counts as an improvement.")
      .at_least(0)
      .may_change()
      .aliases({"early_stopping_threshold", "early_stopping_min_delta"});
}

}  // namespace carillon
