// The reading side of Hdf5File, without any call of the HDF5 library; see hdf5_description.h.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "data/files/hdf5_state.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// Opens an unnamed file, which disappears when it is closed.
int unnamed_file() {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  if (error) folder = "/tmp";
  std::string name = (folder / "carillon-XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor < 0)
    fail(ExitCode::kCannotCreate, "no temporary file can be made ({}), {}, set TMPDIR to a folder with space",
         std::strerror(errno), folder.string());
  ::unlink(name.c_str());
  return descriptor;
}

const Hdf5Description::Entry& readable(const Hdf5Description& description, const std::string& name,
                                       const std::string& path) {
  const auto found = description.datasets.find(name);
  if (found == description.datasets.end())
    fail(ExitCode::kBadInput, "tensor {} is missing, {}, restore the file", name, path);
  if (!found->second.refused.empty())
    fail(ExitCode::kBadInput, "tensor {} {}, {}, write its elements into the file itself", name, found->second.refused,
         path);
  return found->second;
}

// Calls visit(element of the dataset, element of the rectangle, count) for the runs that are contiguous in both.
template <class Visit>
void for_each_run(const Rectangle& rectangle, Visit visit) {
  const size_t dims = rectangle.extent.size();
  // Trailing dims that the rectangle covers completely form one run with the dim before them.
  size_t split = dims - 1;
  int64_t run = rectangle.extent[split];
  while (split > 0 && rectangle.extent[split] == rectangle.global_shape[split]) run *= rectangle.extent[--split];
  std::vector<int64_t> index(split, 0);
  for (int64_t done = 0, all = rectangle.count(); done < all; done += run) {
    int64_t element = 0;
    for (size_t dim = 0; dim < dims; ++dim)
      element = element * rectangle.global_shape[dim] + rectangle.offset[dim] + (dim < split ? index[dim] : 0);
    visit(element, done, run);
    for (size_t dim = split; dim-- > 0;) {
      if (++index[dim] < rectangle.extent[dim]) break;
      index[dim] = 0;
    }
  }
}

}  // namespace

Hdf5File Hdf5File::open(const std::string& path, Links links) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->input = std::make_unique<InputFile>(path, links);
  state->description = describe_hdf5(state->input->descriptor(), state->input->size(), path);
  return Hdf5File(std::move(state));
}

std::vector<Hdf5File::Dataset> Hdf5File::datasets() const {
  std::vector<Dataset> result;
  for (const auto& [name, entry] : state_->description.datasets)
    result.push_back(readable(state_->description, name, state_->path).dataset);
  return result;
}

std::optional<Hdf5File::Dataset> Hdf5File::find(const std::string& name) const {
  if (!state_->description.datasets.contains(name)) return std::nullopt;
  return readable(state_->description, name, state_->path).dataset;
}

std::optional<std::string> Hdf5File::attribute(const std::string& name) const {
  const auto found = state_->description.attributes.find(name);
  if (found == state_->description.attributes.end()) return std::nullopt;
  if (!found->second.refused.empty())
    fail(ExitCode::kBadInput, "attribute {} {}, {}, restore the file", name, found->second.refused, state_->path);
  return found->second.value;
}

std::vector<std::string> Hdf5File::attribute_names() const {
  std::vector<std::string> names;
  for (const auto& [name, attribute] : state_->description.attributes) names.push_back(name);
  return names;
}

void Hdf5File::read(const std::string& name, const Rectangle& rectangle, void* data) const {
  const Hdf5Description::Entry& entry = readable(state_->description, name, state_->path);
  CHECK(rectangle.global_shape == entry.dataset.shape, "a rectangle of another shape", name);
  if (rectangle.empty()) return;
  int descriptor = state_->input->descriptor();
  int64_t begin = entry.place;
  if (begin < 0) {
    const std::lock_guard lock(state_->unpacking);
    int& unpacked = state_->unpacked.try_emplace(name, -1).first->second;
    if (unpacked < 0) {
      const int target = unnamed_file();
      try {
        unpack_hdf5(state_->input->descriptor(), state_->input->size(), state_->path, entry.dataset, target);
      } catch (...) {
        ::close(target);
        throw;
      }
      unpacked = target;
    }
    descriptor = unpacked;
    begin = 0;
  }
  const int64_t width = size_of(entry.dataset.type);
  const std::string what = "tensor " + name;
  for_each_run(rectangle, [&](int64_t element, int64_t at, int64_t count) {
    read_exactly(descriptor, begin + element * width, static_cast<char*>(data) + at * width, count * width, what,
                 state_->path);
  });
}

}  // namespace carillon
