#include "data/corpus/packing.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "runtime/check.h"

namespace carillon {
namespace {

// Closes sequences in order; appends segments to the open one.
class SequenceWriter {
 public:
  SequenceWriter(Packing& packing) : packing_(packing) { packing_.first_segment.push_back(0); }

  int64_t room() const { return packing_.sequence_length - used_; }
  void add(Segment segment) {
    CHECK(segment.length <= room(), "segment does not fit its sequence", segment.length, room());
    packing_.segments.push_back(segment);
    used_ += segment.length;
  }
  void close() {
    if (used_ == 0) return;
    packing_.first_segment.push_back(static_cast<int64_t>(packing_.segments.size()));
    packing_.counts.padded_tokens += room();
    used_ = 0;
  }

 private:
  Packing& packing_;
  int64_t used_ = 0;
};

void pack_window(SequenceWriter& writer, std::vector<Segment>& window, int64_t sequence_length) {
  std::stable_sort(window.begin(), window.end(),
                   [](const Segment& a, const Segment& b) { return a.length > b.length; });
  std::vector<std::vector<Segment>> bins;
  std::set<std::pair<int64_t, size_t>> open;  // (room left, bin): least room first, then the oldest bin
  for (const Segment& segment : window) {
    auto found = open.lower_bound({segment.length, 0});
    std::pair<int64_t, size_t> bin = found == open.end() ? std::pair(sequence_length, bins.size()) : *found;
    if (found == open.end())
      bins.emplace_back();
    else
      open.erase(found);
    bins[bin.second].push_back(segment);
    bin.first -= segment.length;
    if (bin.first > 0) open.insert(bin);
  }
  for (auto& bin : bins) {
    std::sort(bin.begin(), bin.end(), [](const Segment& a, const Segment& b) { return a.begin < b.begin; });
    for (const Segment& segment : bin) writer.add(segment);
    writer.close();
  }
  window.clear();
}

}  // namespace

Packing pack(std::span<const int64_t> document_begin, PackingMode mode, int64_t sequence_length) {
  CHECK(!document_begin.empty(), "document_begin has one entry more than documents");
  CHECK(sequence_length >= 1, "a sequence holds at least one token", sequence_length);
  Packing packing;
  packing.sequence_length = sequence_length;
  packing.counts.documents = static_cast<int64_t>(document_begin.size()) - 1;
  packing.counts.tokens = document_begin.back() - document_begin.front();
  SequenceWriter writer(packing);
  std::vector<Segment> window;

  for (size_t document = 0; document + 1 < document_begin.size(); ++document) {
    int64_t begin = document_begin[document];
    const int64_t end = document_begin[document + 1];
    CHECK(begin < end, "documents have at least one token", document);
    const int64_t pieces_before = packing.counts.pieces;
    while (begin < end) {
      const int64_t room = mode == PackingMode::kSplit ? writer.room() : sequence_length;
      const Segment piece{begin, std::min(end - begin, room)};
      begin += piece.length;
      ++packing.counts.pieces;
      if (mode == PackingMode::kBestFit) {
        window.push_back(piece);
        if (static_cast<int64_t>(window.size()) == kBestFitWindow) pack_window(writer, window, sequence_length);
        continue;
      }
      if (piece.length > writer.room()) writer.close();
      writer.add(piece);
      if (mode == PackingMode::kNone || writer.room() == 0) writer.close();
    }
    if (packing.counts.pieces > pieces_before + 1) ++packing.counts.documents_cut;
  }
  pack_window(writer, window, sequence_length);
  writer.close();

  const int64_t packed = packing.sequences() * sequence_length - packing.counts.padded_tokens;
  CHECK(packed == packing.counts.tokens, "packing lost tokens", packed, packing.counts.tokens);
  return packing;
}

std::string describe(const Packing& packing) {
  const double slots = static_cast<double>(packing.sequences()) * static_cast<double>(packing.sequence_length);
  return fmt::format("{} documents ({} cut), {} pieces, {} sequences of {}, {:.1f} % padding, none dropped",
                     packing.counts.documents, packing.counts.documents_cut, packing.counts.pieces, packing.sequences(),
                     packing.sequence_length,
                     slots > 0 ? 100.0 * static_cast<double>(packing.counts.padded_tokens) / slots : 0.0);
}

}  // namespace carillon
