import * as sdk from "ai6";
import { createOpenAICompatible } from "compatible2";
import { runWith } from "./ai.mjs";

runWith(sdk, createOpenAICompatible);
