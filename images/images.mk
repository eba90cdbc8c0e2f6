# The images: one per tool, named as the tool with dashes, built from images/<tool>/Dockerfile over what it shares with
# others: images/base/Dockerfile, or one of the families that start from that. Scratch, logs and what builds are handed in
# lie in .images/. `--jobs 2` builds two at a time.
#
#   ROOT_IMAGE=…         what the base is built on; bootstrapped where it can neither be found nor pulled
#   DOCKER=…             the docker client, else one with BuildKit; DOCKER_BUILDKIT=0: the classic builder
#   WHEELS=host|none     the builds' wheels are fetched by this machine's pip (default), or by pip in the build, which is
#                        then given PIP_INDEX_URL and PIP_EXTRA_INDEX_URL of the environment and CA_BUNDLE=…, a file
#   DEBIAN_MIRROR=…      where the root image is bootstrapped from
IMAGE_TOOLS := $(sort $(patsubst images/%/Dockerfile,%,$(wildcard images/aml_*/Dockerfile)))
ROOT_IMAGE ?= debian:bookworm-slim
export DOCKER DOCKER_BUILDKIT WHEELS CA_BUNDLE DEBIAN_MIRROR

# Tags that the commit alone decides: its day and its number among that day's commits, and its hash. What is built from
# a tree with uncommitted changes is no commit's image and says so.
IMAGE_INPUTS := images packages schemas .dockerignore LICENSE
IMAGE_REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)$(shell test -z "$$(git status --porcelain -- $(IMAGE_INPUTS) 2>/dev/null)" || echo -dirty)
IMAGE_DAYS = TZ=UTC git log --format=%cd --date=format-local:%Y%m%d
IMAGE_TAGS = $(if $(findstring -dirty,$(IMAGE_REVISION)),dirty,$(shell \
	day=$$($(IMAGE_DAYS) -1) && echo "$$day.$$($(IMAGE_DAYS) | grep -cx "$$day") sha-$$(git rev-parse --short=12 HEAD)"))
# Without credentials, should the address hold some.
IMAGE_SOURCE = $(shell git remote get-url origin 2>/dev/null | sed -E 's,//[^/@]+@,//,')
IMAGE_NAME = $(subst _,-,$(1))

WITH_ENGINE = images/with-engine $(MAKE) --no-print-directory

.PHONY: images
images:  ## build all images
	@+$(WITH_ENGINE) .all-images

image/%:  ## build one tool's image (e.g. image/aml_wrk_profiler)
	@test -f images/$*/Dockerfile || { echo "no tool is named $*; there are: $(IMAGE_TOOLS)" >&2; exit 2; }
	@$(WITH_ENGINE) .sized-image/$*

.PHONY: root-image
root-image:  ## get the root image: pulled, or bootstrapped from Debian's archive
	@images/with-engine images/root-image $(ROOT_IMAGE) .images

.PHONY: test-images
test-images:  ## build all images and test them
	@$(WITH_ENGINE) .test-images

# For .ci/run: the images' tests that measure nothing; then all tests that measure, with the images'.
.PHONY: test-images-together test-alone-with-images
test-images-together: images setup-tests
test-images-together test-alone-with-images:
	@+$(WITH_ENGINE) .$@

.PHONY: test-jobs
test-jobs:  ## build all images and test AzureML jobs that run in them
	@$(WITH_ENGINE) .test-jobs

test-image/%:  ## build one tool's image and test it
	@$(WITH_ENGINE) .test-image/$*

.PHONY: push
push:  ## push all images, by date and by commit (REGISTRY=host/namespace)
	@test -n "$(REGISTRY)" || { echo "name the registry: make push REGISTRY=host/namespace" >&2; exit 2; }
	@test "$(IMAGE_TAGS)" != dirty || { echo "the tree has uncommitted changes: commit first, so that the tags say what is in the images" >&2; exit 1; }
	@+$(WITH_ENGINE) $(addprefix .push/,$(IMAGE_TOOLS))

manifest/%:  ## print what is in an image: Python packages, Debian packages, native programs
	@$(WITH_ENGINE) .manifest/$*

sbom/%:  ## write an image's bill of materials (CycloneDX, .images/sbom/<tool>.cdx.json)
	@$(WITH_ENGINE) .sbom/$*

.PHONY: sboms
sboms:  ## write the bills of materials of all images
	@$(WITH_ENGINE) $(addprefix .sbom/,$(IMAGE_TOOLS))

# Inside: an engine answers.
BUILD_LOG = .images/log/$(1).log
# $(1) the folder, $(2) arguments
define BUILD
	@mkdir -p .images/log
	@images/docker build --file images/$(1)/Dockerfile $(2) . >$(call BUILD_LOG,$(1)) 2>&1 || \
		{ tail -n 40 $(call BUILD_LOG,$(1)); echo "images/$(1)/Dockerfile does not build; the whole log is $(call BUILD_LOG,$(1))" >&2; exit 1; }
endef
PIP_INDEXES = $(if $(filter none,$(WHEELS)),$(foreach name,PIP_INDEX_URL PIP_EXTRA_INDEX_URL,$(if $($(name)),--build-arg $(name))))

.venv/images/bin/pip:
	$(PYTHON) -m venv .venv/images

.PHONY: .image-base
.image-base: .venv/images/bin/pip
	@mkdir -p .images
	@images/root-image $(ROOT_IMAGE) .images
	@images/hand-in .venv/images/bin/python base images/base/requirements.lock images/base/build.lock
	$(call BUILD,base,--build-arg ROOT_IMAGE=$(ROOT_IMAGE) $(PIP_INDEXES) --target build --tag $(SHARED_IMAGE)base-build)
	$(call BUILD,base,--build-arg ROOT_IMAGE=$(ROOT_IMAGE) $(PIP_INDEXES) --tag $(SHARED_IMAGE)base)

.family/base: .image-base
	@:

.family/%: .image-base
	@images/hand-in .venv/images/bin/python $* images/$*/requirements.lock
	$(if $(shell grep ' AS build$$' images/$*/Dockerfile),$(call BUILD,$*,$(PIP_INDEXES) --target build --tag $(SHARED_IMAGE)$*-build))
	$(call BUILD,$*,$(PIP_INDEXES) --tag $(SHARED_IMAGE)$*)

# The family that an image starts from stands in its Dockerfile.
SHARED_IMAGE := aml-model-optimizer-
FAMILY = $(shell sed -n 's/^ARG BASE_IMAGE=$(SHARED_IMAGE)//p' images/$(1)/Dockerfile)
OWN_LOCK = $(wildcard images/$(1)/requirements.lock)
.SECONDEXPANSION:
.image/%: .family/$$(call FAMILY,$$*)
	$(if $(call OWN_LOCK,$*),@images/hand-in .venv/images/bin/python $* $(call OWN_LOCK,$*) $(if $(filter %_olive_optimizer,$*),-- $(TORCH)))
	$(call BUILD,$*,$(PIP_INDEXES) $(if $(filter %_olive_optimizer,$*),--build-arg TORCH=$(TORCH)) \
		--build-arg VERSION=$(call PACKAGE_VERSION,$*) --build-arg REVISION=$(IMAGE_REVISION) --build-arg SOURCE=$(IMAGE_SOURCE) \
		$(foreach tag,latest $(IMAGE_TAGS),--tag $(call IMAGE_NAME,$*):$(tag)))
	@echo "built $(foreach tag,latest $(IMAGE_TAGS),$(call IMAGE_NAME,$*):$(tag))"
PACKAGE_VERSION = $(shell sed -nE 's/^version = "([^"]*)".*/\1/p' packages/$(1)/pyproject.toml)

SIZE_OF = $$(images/docker image inspect --format '{{.Size}}' $(1) 2>/dev/null || echo 0)
define SIZES
	@root=$(call SIZE_OF,$(ROOT_IMAGE)); echo "$(ROOT_IMAGE): $$((root / 1000000)) MB; above it, in MB:"; \
	for image in $(call IMAGE_NAME,$(IMAGE_TOOLS)); do size=$(call SIZE_OF,$$image); \
		test $$size -eq 0 || printf '  %-32s %6d\n' $$image $$(((size - root) / 1000000)); done
endef

.PHONY: .all-images
.all-images: $(addprefix .image/,$(IMAGE_TOOLS))
	$(SIZES)

.sized-image/%: .image/%
	$(SIZES)

TEST_IMAGES = export ROOT_IMAGE=$(ROOT_IMAGE) IMAGES_REQUIRED=1; $(PYTEST)
.test-image/%: .image/% $(TOOLS)/.ready
	@$(TEST_IMAGES) --tool $* tests/by_image --ignore tests/by_image/jobs

.PHONY: .test-jobs
.test-jobs: $(addprefix .image/,$(IMAGE_TOOLS)) $(TOOLS)/.ready
	@$(TEST_IMAGES) tests/by_image/jobs

.PHONY: .test-images
.test-images: .all-images $(TOOLS)/.ready
	@$(TEST_IMAGES) tests/by_image

.PHONY: .test-images-together .test-alone-with-images
.test-images-together:
	@$(TEST_IMAGES) -m together --numprocesses $(TOGETHER) --dist worksteal tests/by_image

.test-alone-with-images:
	@$(PYTEST_PAIRS) tests $(NOT_HERE) --ignore tests/by_image
	@$(TEST_IMAGES) -m "not together and not pairs" tests $(NOT_HERE)

.push/%: .image/%
	@$(foreach tag,$(IMAGE_TAGS),images/docker tag $(call IMAGE_NAME,$*):$(tag) $(REGISTRY)/$(call IMAGE_NAME,$*):$(tag) && \
		images/docker push --quiet $(REGISTRY)/$(call IMAGE_NAME,$*):$(tag) &&) true

RUN_IMAGE = images/docker run --rm --network none
.manifest/%: .image/%
	@$(RUN_IMAGE) $(call IMAGE_NAME,$*) sh -c 'echo "# Python"; pip list --format freeze; \
		echo "# Debian"; dpkg-query --show --showformat "\$${Package}=\$${Version}\\n"; \
		echo "# native"; for program in $$IMAGE_NATIVE_PROGRAMS; do "$$program" --version 2>&1 | head -n 1; done'

.PHONY: .sbom-wheels
.sbom-wheels: .image-base
	@images/hand-in .venv/images/bin/python sbom images/sbom/requirements.lock

.sbom/%: .image/% .sbom-wheels
	@mkdir -p .images/sbom
	@images/docker run --rm --network none --user 0:0 --volume "$(CURDIR)/.images/handed-in/sbom/wheels:/sbom/wheels:ro" \
		--volume "$(CURDIR)/images/sbom/bill.py:/sbom/bill.py:ro" $(call IMAGE_NAME,$*) sh -ec 'pip install --quiet --no-index \
		--find-links /sbom/wheels --target /tmp/cyclonedx cyclonedx-bom && python /sbom/bill.py /tmp/cyclonedx "$$@"' - \
		$(call IMAGE_NAME,$*) $(call PACKAGE_VERSION,$*) $(IMAGE_REVISION) >.images/sbom/$*.part
	@mv .images/sbom/$*.part .images/sbom/$*.cdx.json && echo "wrote .images/sbom/$*.cdx.json"
