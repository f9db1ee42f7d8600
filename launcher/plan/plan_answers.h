// What autoglm-plan finds out, before it is text or JSON. An answer refers to the context it was made from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/plan/plan_context.h"
#include "launcher/planner/changes.h"
#include "launcher/planner/estimates.h"
#include "launcher/planner/search.h"
#include "launcher/planner/step_work.h"

namespace autoglm {

// The plan of a full fine-tuning, or none when nothing fits.
class TrainingAnswer {
 public:
  explicit TrainingAnswer(const PlanContext& context);
  TrainingAnswer(const TrainingAnswer&) = delete;
  TrainingAnswer& operator=(const TrainingAnswer&) = delete;

  const PlanContext& context() const { return context_; }
  const std::optional<Plan>& plan() const { return plan_; }

  // Where nothing fits: one sentence, and the strategy that misses by least.
  std::string why_nothing_fits() const;
  const std::optional<Candidate>& nearest() const { return search_.nearest(); }

  // Of a plan that fits.
  bool is_chosen(const Candidate& one) const;
  std::vector<OptIn> opt_ins();
  std::vector<OptIn> larger_batches();
  Candidate with_twice_the_micro_batch();
  Candidate with_twice_the_row_length() const;

  double tokens_per_second(const Candidate& one) const;
  // What the chosen step moves and computes, and the speeds that its estimate assumes.
  StepWork work() const;
  const Rates& rates() const { return wish_.rates; }
  double model_flops_utilization(const Candidate& one);
  // Part of the chosen step that it waits for what ranks send to each other.
  double share_of_links();

 private:
  const PlanContext& context_;
  PlanWish wish_;
  MemoryModel memory_;
  Search search_;
  std::optional<Plan> plan_;
};

// Full fine-tuning on a device of so many GB, with and without the host's help: on the card that the person
// named, else on the slowest that is sold with so much.
struct Tier {
  std::int64_t gigabytes = 0;
  std::string card;  // whose speeds and links these are, a profile's name
  std::optional<Plan> plain, offloaded;
  bool lora_fits = false, qlora_fits = false;  // on one device, by the estimates
};

struct TiersAnswer {
  const PlanContext& context;
  AdapterEstimate adapters;
  std::vector<Tier> tiers;
};

TiersAnswer answer_tiers(const PlanContext& context);

struct InferenceAnswer {
  const PlanContext& context;
  std::vector<InferenceEstimate> formats;
  bool fits(const InferenceEstimate& one) const;  // on one device
};

InferenceAnswer answer_inference(const PlanContext& context);

// What a person may name.
struct NamesAnswer {
  std::vector<std::string> models;
  std::vector<HardwareProfile> devices;
  std::vector<LinkProfile> links;
};

NamesAnswer answer_names(const std::filesystem::path& configs);

// "micro-batch 4, zero2, ...".
std::string schedule_text(const Strategy& strategy);

// Why `other` lost against the choice: "needs 3.1 GiB more", "7 % slower: recompute", ...
std::string reason_lost(const Candidate& other, const Candidate& chosen);

// "devices" or "nodes".
const char* ends_of(const LinkProfile& link);

}  // namespace autoglm
