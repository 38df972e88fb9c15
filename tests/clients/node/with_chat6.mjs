import * as sdk from "ai6";
import { runWith } from "./usechat.mjs";

runWith(sdk);
