// LongEmbed's generated retrieval (2404.12096): finds the document that answers a query by the cosine of embeddings.
#include <cmath>
#include <numeric>
#include <optional>

#include "data/tasks/embedding_pairs.h"
#include "launch/evaluate/tasks/task.h"
#include "launch/inference/embedder.h"

namespace carillon {
namespace {

using Embeddings = std::vector<std::vector<double>>;

EmbeddingOptions options_of(const Json& task) {
  EmbeddingOptions options;
  options.pooling = task["pooling"] == "last" ? Pooling::kLast : Pooling::kMean;
  options.positions = task["positions"] == "grouped"     ? LongPositions::kGrouped
                      : task["positions"] == "recurrent" ? LongPositions::kRecurrent
                      : task["positions"] == "chunks"    ? LongPositions::kChunks
                                                         : LongPositions::kConsecutive;
  options.trained = task["trained_length"];
  return options;
}

// Query i is answered by document i. A document of equal similarity counts as nearer.
Json metrics_of(const Embeddings& queries, const Embeddings& documents) {
  Share first;
  double reciprocal = 0, gain = 0, margin = 0;
  for (size_t query = 0; query < queries.size(); ++query) {
    const auto similarity = [&](size_t document) {
      return std::inner_product(queries[query].begin(), queries[query].end(), documents[document].begin(), 0.0);
    };
    const double own = similarity(query);
    double best = -2;
    int64_t rank = 1;
    for (size_t other = 0; other < documents.size(); ++other) {
      if (other == query) continue;
      const double there = similarity(other);
      rank += !(there < own);  // so that a NaN is never correct
      best = std::max(best, there);
    }
    first.add(rank == 1);
    reciprocal += 1 / static_cast<double>(rank);
    if (rank <= 10) gain += 1 / std::log2(static_cast<double>(rank) + 1);
    margin += own - best;
  }
  const auto count = static_cast<double>(queries.size());
  return {{"accuracy", first.json()},
          {"ndcg_10", gain / count},
          {"mean_reciprocal_rank", reciprocal / count},
          {"margin", std::isfinite(margin) ? Json(margin / count) : Json()},
          {"queries", queries.size()},
          {"candidates", documents.size()}};
}

}  // namespace

Json run_embedding(const TaskContext& context) {
  const Json& task = context.point.task;
  std::vector<std::vector<int32_t>> queries, documents;
  agree(context.world, [&] {
    EmbeddingPairOptions options;
    options.subtask = task["subtask"];
    options.length = context.point.length;
    options.documents = task["candidates"];
    if (task["digits"] > 0) options.digits = task["digits"];
    options.closed = task["pooling"] == "last";
    options.seed = task["seed"].get<uint64_t>();
    const EmbeddingPairs pairs(options, context.tokenizer, context.model.vocab_size);
    for (int64_t i = 0; i < options.documents; ++i) documents.push_back(pairs.document(i));
    for (int64_t i = 0; i < task["queries"].get<int64_t>(); ++i) {
      queries.push_back(pairs.query(i));
      if (static_cast<int64_t>(queries.back().size()) > context.point.length)
        fail(ExitCode::kUsage, "length {} has no room for a query of {} tokens, in lengths, give a longer one",
             context.point.length, queries.back().size());
    }
  });
  Embedder embedder(context.scorer);
  Embeddings of_queries, of_documents;
  const auto into = [](Embeddings& all) {
    return [&all](size_t, const std::vector<double>& embedding) { all.push_back(embedding); };
  };
  embedder.embed(documents, options_of(task), into(of_documents));
  embedder.embed(queries, options_of(task), into(of_queries));
  return of_queries.empty() ? Json::object() : metrics_of(of_queries, of_documents);
}

}  // namespace carillon
